"""The GraphQL documents that the adapter sends. Each is fixed; only variables differ from call to call."""

from __future__ import annotations

_TRANSACTION = """
fragment Sale on Transaction {
  id
  legacyId
  orderId
  status
  amount { value currencyCode }
  statusHistory {
    __typename
    status
    amount { value currencyCode }
    ... on AuthorizedEvent { authorizationExpiresAt }
    ... on ProcessorDeclinedEvent { declineType processorResponse { legacyCode } }
    ... on FailedEvent { processorResponse { legacyCode } }
    ... on GatewayRejectedEvent { gatewayRejectionReason }
  }
}
"""

_REFUND = """
fragment GivenBack on Refund {
  id
  legacyId
  orderId
  status
  amount { value currencyCode }
  refundedTransaction { id }
  statusHistory {
    __typename
    status
    ... on ProcessorDeclinedEvent { declineType processorResponse { legacyCode } }
    ... on FailedEvent { processorResponse { legacyCode } }
    ... on GatewayRejectedEvent { gatewayRejectionReason }
  }
}
"""

AUTHORIZE = (
    """
mutation Authorize($input: AuthorizePaymentMethodInput!) {
  result: authorizePaymentMethod(input: $input) { clientMutationId transaction { ...Sale } }
}
"""
    + _TRANSACTION
)

CHARGE = (
    """
mutation Charge($input: ChargePaymentMethodInput!) {
  result: chargePaymentMethod(input: $input) { clientMutationId transaction { ...Sale } }
}
"""
    + _TRANSACTION
)

CAPTURE = (
    """
mutation Capture($input: CaptureTransactionInput!) {
  result: captureTransaction(input: $input) { clientMutationId transaction { ...Sale } }
}
"""
    + _TRANSACTION
)

PARTIAL_CAPTURE = (
    """
mutation PartialCapture($input: PartialCaptureTransactionInput!) {
  result: partialCaptureTransaction(input: $input) { clientMutationId transaction: capture { ...Sale } }
}
"""
    + _TRANSACTION
)

REVERSE = (
    """
mutation Reverse($input: ReverseTransactionInput!) {
  result: reverseTransaction(input: $input) {
    clientMutationId
    reversal { __typename ...Sale ...GivenBack }
  }
}
"""
    + _TRANSACTION
    + _REFUND
)

REFUND = (
    """
mutation Refund($input: RefundTransactionInput!) {
  result: refundTransaction(input: $input) { clientMutationId refund { ...GivenBack } }
}
"""
    + _REFUND
)

READ = (
    """
query Read($id: ID!) {
  result: node(id: $id) {
    __typename
    ...Sale
    ... on Transaction { refunds { ...GivenBack } }
  }
}
"""
    + _TRANSACTION
    + _REFUND
)

FIND_SALES = (
    """
query FindSales($input: TransactionSearchInput!, $first: Int!) {
  search {
    result: transactions(input: $input, first: $first) {
      edges { node { ...Sale } }
      pageInfo { hasNextPage }
    }
  }
}
"""
    + _TRANSACTION
)

FIND_REFUNDS = (
    """
query FindRefunds($input: RefundSearchInput!, $first: Int!) {
  search {
    result: refunds(input: $input, first: $first) {
      edges { node { ...GivenBack } }
      pageInfo { hasNextPage }
    }
  }
}
"""
    + _REFUND
)

PING = "query Ping { ping }"

ALL = {
    "authorize": AUTHORIZE,
    "charge": CHARGE,
    "capture": CAPTURE,
    "partial_capture": PARTIAL_CAPTURE,
    "reverse": REVERSE,
    "refund": REFUND,
    "read": READ,
    "find_sales": FIND_SALES,
    "find_refunds": FIND_REFUNDS,
    "ping": PING,
}
"""Every document, by a name for tests and for whoever answers them."""

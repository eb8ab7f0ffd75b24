"""Braintree's official SDK, which warns of its own deprecated parts when it is imported."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import braintree
    from braintree.exceptions.invalid_signature_error import InvalidSignatureError
    from braintree.util.crypto import Crypto

__all__ = ["Crypto", "InvalidSignatureError", "braintree"]

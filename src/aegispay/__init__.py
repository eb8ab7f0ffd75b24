"""AegisPay: take a payment through several PSPs, survive what happens, and never charge a customer twice."""

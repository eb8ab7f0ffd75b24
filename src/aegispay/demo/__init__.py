"""`aegispay demo`: payments through five PSPs with every kind of trouble, each checked against the bank's own books.

It uses the library as any shop would: nothing here reaches behind the public face of AegisPay.
"""

from aegispay.demo.options import DemoOptions
from aegispay.demo.runner import run

__all__ = ["DemoOptions", "run"]

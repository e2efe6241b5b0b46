"""Reads any usual format, checks it, renders it, marks exactly which tokens carry loss."""

from strop.core.errors import DataError
from strop.data.encoding import encode, encode_all, prompt
from strop.data.reading import read
from strop.data.rows import BrokenRowsError, Example, Fault, Message, Row, Rows
from strop.data.splitting import split

__all__ = [
    "BrokenRowsError",
    "DataError",
    "Example",
    "Fault",
    "Message",
    "Row",
    "Rows",
    "encode",
    "encode_all",
    "prompt",
    "read",
    "split",
]

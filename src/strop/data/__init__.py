"""Reads any usual format, checks it, renders it, marks exactly which tokens carry loss."""

from strop.core.errors import DataError
from strop.data.encoding import encode, encode_all, prompt
from strop.data.reading import read
from strop.data.rows import BrokenRowsError, Example, Fault, Message, Row, Rows
from strop.data.splitting import split
from strop.data.supervision import Supervision
from strop.data.templates import family_of, family_template, template_of

__all__ = [
    "BrokenRowsError",
    "DataError",
    "Example",
    "Fault",
    "Message",
    "Row",
    "Rows",
    "Supervision",
    "encode",
    "encode_all",
    "family_of",
    "family_template",
    "prompt",
    "read",
    "split",
    "template_of",
]

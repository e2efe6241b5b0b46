"""Reads any usual format, checks it, renders it, marks exactly which tokens carry loss."""

from strop.core.errors import DataError
from strop.data.checking import check
from strop.data.columns import Columns
from strop.data.encoding import encode, encode_all, prompt
from strop.data.fixing import Change, fix
from strop.data.reading import read, stream
from strop.data.report import Finding, Lengths, Report
from strop.data.rows import BrokenRowsError, Example, Fault, Message, Row, Rows
from strop.data.showing import Piece, as_html, show
from strop.data.splitting import split
from strop.data.supervision import Supervision
from strop.data.templates import family_of, family_template, template_of

__all__ = [
    "BrokenRowsError",
    "Change",
    "Columns",
    "DataError",
    "Example",
    "Fault",
    "Finding",
    "Lengths",
    "Message",
    "Piece",
    "Report",
    "Row",
    "Rows",
    "Supervision",
    "as_html",
    "check",
    "encode",
    "encode_all",
    "family_of",
    "family_template",
    "fix",
    "prompt",
    "read",
    "show",
    "split",
    "stream",
    "template_of",
]

"""Data: reads any usual format, checks it, renders it, labels exactly the supervised tokens."""

from strop.core.errors import DataError
from strop.data.checking.checker import check
from strop.data.checking.fix import Change, fix
from strop.data.checking.report import Finding, Lengths, Report
from strop.data.encoding.encode import encode, encode_all, prompt
from strop.data.encoding.length import Fit
from strop.data.encoding.supervision import Supervision
from strop.data.encoding.templates import family_of, family_template, template_of
from strop.data.preview import Piece, as_html, show
from strop.data.reading.columns import Columns
from strop.data.reading.read import read, stream
from strop.data.rows import BrokenRowsError, Example, Fault, Message, Row, Rows
from strop.data.splitting import split

__all__ = [
    "BrokenRowsError",
    "Change",
    "Columns",
    "DataError",
    "Example",
    "Fault",
    "Finding",
    "Fit",
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

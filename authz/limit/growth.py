"""Characters that become longer before they are counted.

Tokenizers normalize first: Qwen's to NFC, those of XLM-RoBERTa and T5 to NFKC, BERT's to NFD (Unicode
Standard Annex 15). Of nearly all characters no form has more bytes or characters than UTF-8 has bytes; of
those here one has.
"""

import re

MOST = 15  # tokens more than bytes: U+FDFA, three bytes, is 18 characters in NFKC

_GROWING = re.compile(
    "["
    "\u00bc-\u00be\u01c4-\u01c6\u01d5-\u01e1\u01ec-\u01ed\u01fa-\u01fb\u022a-\u022d\u0230-\u0231\u0344\u0385\u0390"
    "\u03b0\u0958-\u095f\u09dc-\u09df\u0a33-\u0a36\u0a59-\u0a5e\u0b5c-\u0b5d\u0f43-\u0fb9\u1f82-\u1faf\u2057\u2152"
    "\u2167\u2177\u247d-\u2487\u2a0c\u2adc\u320e-\u321e\u327c-\u327d\u3300-\u3357\u337f\u3389\u33a8-\u33d8\ufa6c"
    "\ufacf-\ufad7\ufb1d-\ufb4e\ufdf2-\ufdfc\U0001d15e-\U0001d164\U0001d1bb-\U0001d1c0"
    "]"
)
_ESCAPED = re.compile(rb"\\u[fF][dD][fF][aA]")  # six bytes: of all others an escape is longer


def growth(body: bytes) -> int:
    """Tokens that valid UTF-8 may have beyond its bytes."""
    escaped = 0
    if b"\\" in body:
        escaped = len(_ESCAPED.findall(body))
    if not body.isascii():
        escaped += len(_GROWING.findall(body.decode()))
    return MOST * escaped

"""The console shows an amount as the library does: both know the minor units of each currency."""

import re
from pathlib import Path

from recourse.declare.money import MINOR_DIGITS

SOURCE = Path(__file__).parents[2] / "console" / "src" / "parts" / "money.ts"


def test_the_console_knows_which_currencies_have_other_than_two_digits() -> None:
    listed = re.findall(r'^  (\d): "([A-Z ]+)",$', SOURCE.read_text(), re.M)
    shown = {code: int(digits) for digits, codes in listed for code in codes.split()}
    assert shown == {code: digits for code, digits in MINOR_DIGITS.items() if digits != 2}

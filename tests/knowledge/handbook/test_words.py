import pytest

from vesalius.knowledge.handbook.words import ordinal, roman


@pytest.mark.parametrize(
    ("number", "word"),
    [
        (1, "first"),
        (12, "twelfth"),
        (20, "twentieth"),
        (21, "twenty-first"),
        (30, "thirtieth"),
        (112, "112th"),
        (101, "101st"),
    ],
)
def test_ordinals_are_words(number, word):
    assert ordinal(number) == word


def test_roman_numerals_differ_and_read_back():
    values = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}

    def read(text):
        numbers = [values[letter] for letter in text]
        return sum(-n if n < max(numbers[i:], default=0) else n for i, n in enumerate(numbers))

    assert [read(roman(number)) for number in range(120)] == list(range(120))
    assert (roman(0), roman(4), roman(9)) == ("", "IV", "IX")

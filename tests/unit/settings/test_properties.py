"""Java's properties syntax."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.settings.properties import PropertiesError, parse, parse_to_dict


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=1", {"a": "1"}),
        ("a = 1 ", {"a": "1 "}),
        ("a:1", {"a": "1"}),
        ("a 1", {"a": "1"}),
        ("a \t= \t1", {"a": "1"}),
        ("a==1", {"a": "=1"}),
        ("a", {"a": ""}),
        ("a=", {"a": ""}),
        ("  a=1\r\n\r\n! no\n # no\rb=2", {"a": "1", "b": "2"}),
        ("a=1\na=2", {"a": "2"}),
        ("a=one,\\\n   two,\\\n   three", {"a": "one,two,three"}),
        ("a=one\\\n# not a comment", {"a": "one# not a comment"}),
        ("a=ends\\\\\nb=2", {"a": "ends\\", "b": "2"}),
        ("a=last\\", {"a": "last"}),
        (r"a\=b\:c\ d=1", {"a=b:c d": "1"}),
        (r"a=\t\n\r\f\q", {"a": "\t\n\r\fq"}),
        (r"a=caf\u00e9", {"a": "café"}),
        (r"a=\uD83D\uDE00", {"a": "😀"}),
        ("a=čaj", {"a": "čaj"}),
        ("\ufeffa=1", {"a": "1"}),
        ("=1", {"": "1"}),
        ("", {}),
    ],
)
def test_text_is_read_as_java_reads_it(text: str, expected: dict[str, str]) -> None:
    assert parse_to_dict(text) == expected


def test_a_property_knows_the_line_where_it_starts() -> None:
    items = parse("# first\na=1\\\n2\n\nb=3\n")
    assert [(item.key, item.value, item.line) for item in items] == [("a", "12", 2), ("b", "3", 5)]


@pytest.mark.parametrize("text", ["x=1\na=\\u12", "x=1\na=\\uZZZZ", "x=1\na=\\uD83D"])
def test_a_broken_escape_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(PropertiesError, match="line 2"):
        parse(text)


@given(st.text(alphabet=st.sampled_from("ab=:\\ \t\n\r#!u0é")))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        items = parse(text)
    except PropertiesError:
        return
    assert all(item.line >= 1 for item in items)


@given(
    st.dictionaries(
        st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), min_size=1),
        st.text(),
    )
)
def test_what_is_escaped_comes_back(values: dict[str, str]) -> None:
    def escape(text: str) -> str:
        units = text.encode("utf-16-be", "surrogatepass")
        return "".join(f"\\u{units[i] << 8 | units[i + 1]:04x}" for i in range(0, len(units), 2))

    text = "\n".join(f"{escape(key)}={escape(value)}" for key, value in values.items())
    assert parse_to_dict(text) == values

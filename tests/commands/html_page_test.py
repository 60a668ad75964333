"""A template's strings are escaped, what it does not get is an error, and the page fetches nothing."""

import re

import pytest

from ariigcn_jax.commands import html_page
from ariigcn_jax.types import UserError

jinja2 = pytest.importorskip("jinja2", reason="jinja2 is not installed (extra: report)")
EVIL = "</p></script><img src=x onerror='1'>"


@pytest.fixture
def template(tmp_path):
    """A function that writes a template and fills it."""

    def fill(text, **content):
        (tmp_path / "page.html").write_text(text)
        return html_page.render(tmp_path / "page.html", **content)

    return fill


def test_strings_are_escaped_in_elements_attributes_and_scripts(template):
    filled = template('<p title="{{ words }}">{{ words }}</p><script>{{ words|tojson }}</script>', words=EVIL)
    assert re.findall(r"<(\w+)", filled) == ["p", "script"]
    assert filled.count("</p>") == filled.count("</script>") == 1
    assert "'" not in filled


def test_what_a_template_lacks_is_an_error(template):
    with pytest.raises(jinja2.UndefinedError, match="title"):
        template("<h1>{{ title }}</h1>")


def test_filters_and_the_policy_come_along(template):
    filled = template("{{ policy|safe }}|{{ 2|double }}", filters={"double": lambda x: 2 * x})
    policy, double = filled.split("|")
    assert policy.startswith("default-src 'none'") and double == "4"


def test_packages_that_are_missing_are_named():
    html_page.check_packages("jinja2")
    with pytest.raises(UserError, match=r"needs nowhere_1 and nowhere_2\..*report"):
        html_page.check_packages("nowhere_1", "jinja2", "nowhere_2")

"""The signed URL goes out as it came in, whatever an HTTP library would make of it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2b_upload import UsageError, put
from e2b_upload.transfer.url import parse
from tests.support.rawserver import answer, raw_server
from tests.transfer.common import Chameleon, redirect
from tests.transfer.ways import Travel

TARGETS = [
    "/bucket/%7Euser/a%2fb%2Fc.tar.gz?X-Amz-Credential=AKIA%2f2026&X-Amz-Signature=ab%41",
    "/b/%41?sig=a%7eb",
    "/b/a[1].tar.gz?x=[",
    "/b/a\\b?x=\\",
    "/b/100%?x=%",
    "/b/100%zz?x=%zz",
    '/b/a|b^c`d{e}"f<g>?x=|^`{}"<>',
    "//b//c?x=//y",
    "/b?",
    "/b?a=b?c=d",
    "/b?a+b=c+d&&=&",
    "/b;v=1?a;b",
    "/b/'quoted'?x='y'",
    "/b:c@d?e=f@g:h",
]


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_goes_out_as_it_was_given(target: str, way: Travel, small: Path) -> None:
    with way(answer(200)) as (url, server):
        put(small, url + target, retries=0)
    request = server.requests[-1]
    through_proxy = request.target.startswith("http://")
    assert request.target == (url if through_proxy else "") + target


@pytest.mark.parametrize(("rest", "target"), [("", "/"), ("/", "/"), ("?a=b", "/?a=b")])
def test_without_a_path_the_root_is_asked_for(
    rest: str, target: str, way: Travel, small: Path
) -> None:
    with way(answer(200)) as (url, server):
        put(small, url + rest, retries=0)
    assert server.requests[-1].target.removeprefix("http://store.invalid") == target


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("whole", [True, False])
def test_so_does_where_a_redirect_leads(target: str, small: Path, *, whole: bool) -> None:
    if not whole and target.startswith("//"):
        return  # names a host
    location = "http://127.0.0.1:{port}" if whole else ""
    location += target.replace("{", "{{").replace("}", "}}")
    with raw_server(redirect(307, location), answer(200)) as server:
        put(small, f"{server.url}/first?a=b", retries=0)
    assert [request.target for request in server.requests] == ["/first?a=b", target]


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=30))
def test_any_target_goes_out_as_it_was_given_or_is_refused(
    chameleon: Chameleon, small: Path, text: str
) -> None:
    try:
        parse(f"{chameleon.server.url}/{text}")
    except UsageError:
        return
    chameleon.script = answer(200)
    put(small, f"{chameleon.server.url}/{text}", retries=0)
    assert chameleon.server.requests[-1].target == f"/{text}"

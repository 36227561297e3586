"""Only if the object does not exist: `if_absent`, and what a failed condition means."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from e2b_upload import Archive, RefusedError, UsageError, build, put
from e2b_upload.transfer.put import EXPECT_BYTES
from tests.support.rawserver import Connection, Recorded, Script, answer, raw_server, read_on
from tests.transfer.common import KIB, TARGET, failure_of, xml

if TYPE_CHECKING:
    from e2b_upload import UploadError

UNKNOWN = "/upload/key?ticket=1"
SAS = "/c/k?sv=2022-11-02&sr=b&sp=cw&sig=Zm9y&se=2099-01-01"
GCS = "/b/k?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Signature=ab&X-Goog-SignedHeaders=host"
GCS_SIGNED = f"{GCS}%3Bx-goog-if-generation-match"
GCS_V2 = "/b/k?GoogleAccessId=me&Signature=ab&Expires=4102444800"
OSS = "/k?OSSAccessKeyId=L&Signature=ab&Expires=4102444800"
BLOB = {"x-ms-blob-type": "BlockBlob"}
IF_NONE_MATCH, GENERATION = ("If-None-Match", "*"), ("x-goog-if-generation-match", "0")
EXISTS = answer(412, xml("PreconditionFailed", "At least one of the preconditions did not hold"))
BLOB_EXISTS = answer(409, xml("BlobAlreadyExists", "The specified blob already exists."))
FORBID = {"x-oss-forbid-overwrite": "true"}
OTHER = {"ETag": '"0123456789abcdef0123456789abcdef"'}


def conditions(request: Recorded) -> list[tuple[str, str]]:
    return [header for header in request.headers if "if-" in header[0].lower()]


@pytest.mark.parametrize(
    ("target", "headers", "condition"),
    [
        (TARGET, {}, IF_NONE_MATCH),
        (UNKNOWN, {}, IF_NONE_MATCH),
        (SAS, BLOB, IF_NONE_MATCH),
        (GCS_SIGNED, {}, GENERATION),
        (GCS_SIGNED, dict([GENERATION]), GENERATION),
        (GCS_V2, dict([GENERATION]), GENERATION),
        (TARGET, {"if-none-match": "*"}, ("if-none-match", "*")),
    ],
)
def test_each_store_gets_its_own_condition(
    target: str, headers: dict[str, str], condition: tuple[str, str], small: Path
) -> None:
    with raw_server(answer(200)) as server:
        receipt = put(small, server.url + target, headers=headers, if_absent=True)
    assert conditions(server.requests[0]) == [condition]
    assert receipt.status == "uploaded"


@pytest.mark.parametrize("target", [GCS, GCS_V2, OSS])
def test_a_condition_that_must_be_signed_and_is_not(target: str, tmp_path: Path) -> None:
    """Before anything is packed."""
    (tmp_path / "file").write_bytes(b"")
    with raw_server(answer(200)) as server, pytest.raises(RefusedError) as caught:
        build(
            tmp_path,
            server.url + target,
            if_absent=True,
            on_event=lambda event: pytest.fail(str(event)),
        )
    assert "was signed" in caught.value.message
    assert "signed with x-" in caught.value.hint
    assert server.requests == []


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        (TARGET, {"If-Match": '"abc"'}),
        (TARGET, {"If-None-Match": '"abc"'}),
        (UNKNOWN, {"If-Unmodified-Since": "Sat, 1 Jan 2000 00:00:00 GMT"}),
        (GCS_SIGNED, {"x-goog-if-generation-match": "7"}),
        (GCS_SIGNED, {"x-goog-if-metageneration-match": "7"}),
    ],
)
def test_another_condition_is_refused(target: str, headers: dict[str, str], small: Path) -> None:
    with raw_server(answer(200)) as server, pytest.raises(UsageError) as caught:
        put(small, server.url + target, headers=headers, if_absent=True)
    assert next(iter(headers)).lower() in caught.value.message
    assert server.requests == []


@pytest.mark.parametrize(
    ("target", "headers", "script", "status"),
    [
        (TARGET, {}, EXISTS, 412),
        (SAS, BLOB, BLOB_EXISTS, 409),
        (OSS, FORBID, answer(409, xml("FileAlreadyExists")), 409),
        (UNKNOWN, {}, answer(412), 412),
    ],
)
def test_an_object_that_exists_is_present(
    target: str, headers: dict[str, str], script: Script, status: int, small: Path
) -> None:
    with raw_server(script) as server:
        receipt = put(small, server.url + target, headers=headers, if_absent=True)
    assert (receipt.status, receipt.http_status, receipt.attempts) == ("present", status, 1)
    assert (receipt.verified, len(server.requests)) == (None, 1)


@pytest.mark.parametrize(("status", "code"), [(400, 6), (503, 5), (409, 6)])
def test_the_code_alone_is_not_enough(status: int, code: int, small: Path) -> None:
    name = "BlobAlreadyExists" if status != 409 else "OtherConflict"
    with raw_server(answer(status, xml(name))) as server:
        error = failure_of(small, server.url + TARGET, if_absent=True)
    assert error.exit_code == code


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (xml("SlowDown"), 5),
        (xml("AccessDenied"), 6),
        (xml("LeaseNotPresentWithBlobOperation"), 6),
        (b"<!DOCTYPE html><html><title>Check your browser</title></html>", 6),
        (b'{"message": "License agreement not accepted"}', 6),
        (b"Log in first", 6),
        (b"Request blocked: policy precondition failed (rule 942100)", 6),
        (b"<html><head><title>412 Precondition Failed</title></head></html>", 6),
        (b"", 6),
    ],
)
def test_a_412_for_another_reason_is_not_present(body: bytes, code: int, small: Path) -> None:
    with raw_server(answer(412, body)) as server:
        error = failure_of(small, server.url + TARGET, if_absent=True)
    assert (error.exit_code, error.http_status) == (code, 412)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        xml("PreconditionFailed"),
        xml("ConditionNotMet"),
        b'{"error": {"code": 412, "errors": [{"reason": "conditionNotMet"}]}}',
    ],
)
def test_a_412_is_understood_by_each_stores_code(body: bytes, small: Path) -> None:
    with raw_server(answer(412, body)) as server:
        receipt = put(small, server.url + UNKNOWN, if_absent=True)
    assert receipt.status == "present"


@pytest.mark.parametrize("headers", [{"x-amz-request-id": "1"}, {"x-ms-version": "2022-11-02"}])
def test_an_empty_412_of_a_store_says_that_it_exists(headers: dict[str, str], small: Path) -> None:
    with raw_server(answer(412, b"", headers)) as server:
        assert put(small, server.url + TARGET, if_absent=True).status == "present"


def test_what_an_attempt_may_have_stored_is_not_forgotten(small: Path) -> None:
    def lost(connection: Connection) -> None:
        connection.read_head()
        connection.read_body()
        connection.reset()

    denied = answer(403, xml("AccessDenied"))
    with raw_server(lost, denied) as server:
        error = failure_of(small, server.url + TARGET, retries=1)
    assert "the object may be stored" in error.hint
    with raw_server(answer(200, b"", OTHER), denied) as server:
        error = failure_of(small, server.url + TARGET, retries=1)
    assert "the object may be damaged" in error.hint
    with raw_server(denied) as server:
        assert "may be" not in failure_of(small, server.url + TARGET).hint


def test_its_archive_is_not_sent(archive: Callable[[int], Archive]) -> None:
    def exists(connection: Connection) -> None:
        connection.continues = False
        read_on(412, 0, xml("PreconditionFailed"))(connection)

    with raw_server(exists) as server:
        receipt = put(archive(EXPECT_BYTES), server.url + TARGET, if_absent=True)
    assert receipt.status == "present"
    assert server.requests[0].body_bytes == 0


@pytest.mark.parametrize("lost", [Connection.close, Connection.reset])
def test_an_attempt_whose_answer_was_lost_may_have_stored_it(
    lost: Callable[[Connection], None], small: Path
) -> None:
    def store(connection: Connection) -> None:
        connection.read_head()
        connection.read_body()
        lost(connection)

    with raw_server(store, EXISTS) as server:
        receipt = put(small, server.url + TARGET, if_absent=True, retries=1)
        assert (receipt.status, receipt.attempts) == ("present", 2)
    assert len({tuple(conditions(request)) for request in server.requests}) == 1


@pytest.mark.parametrize("wrong", [answer(200, b"", OTHER), read_on(200, KIB)])
def test_an_object_that_an_attempt_damaged_is_not_present(
    wrong: Script, archive: Callable[[int], Archive]
) -> None:
    with raw_server(wrong, EXISTS) as server:
        error = failure_of(archive(EXPECT_BYTES), server.url + TARGET, if_absent=True, retries=4)
    assert (type(error).__name__, error.exit_code) == ("DamagedError", 5)
    assert len(server.requests) == 2


def test_nor_is_one_called_damaged_that_a_later_attempt_may_have_stored(
    archive: Callable[[int], Archive],
) -> None:
    def lost(connection: Connection) -> None:
        connection.read_head()
        connection.read_body()
        connection.close()

    with raw_server(read_on(200, KIB), lost, EXISTS) as server:
        error = failure_of(archive(EXPECT_BYTES), server.url + TARGET, if_absent=True, retries=4)
    assert error.exit_code == 5
    assert "either damaged, or this archive" in error.hint


@pytest.mark.parametrize("status", [409, 412])
@pytest.mark.parametrize("first", [answer(500), answer(503), "lost"])
def test_without_the_option_the_object_is_probably_the_archive(
    status: int, first: Script | str, small: Path
) -> None:
    def lost(connection: Connection) -> None:
        connection.read_head()
        connection.read_body()
        connection.close()

    script = lost if isinstance(first, str) else first
    with raw_server(script, answer(status)) as server:
        error = failure_of(small, server.url + TARGET, headers={"If-None-Match": "*"}, retries=1)
    assert (type(error), error.http_status) == (RefusedError, status)
    assert "The object is probably this archive" in error.hint


@pytest.mark.parametrize("status", [409, 412])
def test_not_where_no_attempt_sent_it_all(status: int, archive: Callable[[int], Archive]) -> None:
    def refuse(connection: Connection) -> None:
        connection.continues = False
        read_on(503)(connection)

    sent = archive(EXPECT_BYTES)
    with raw_server(answer(status)) as server:
        errors: list[UploadError] = [failure_of(sent, server.url + TARGET)]
    with raw_server(refuse, answer(status)) as server:
        errors.append(failure_of(sent, server.url + TARGET, retries=1))
    assert not any("probably" in error.hint for error in errors)


def test_a_redirect_to_another_kind_of_store_gets_its_own_condition(small: Path) -> None:
    with (
        raw_server(EXISTS) as there,
        raw_server(answer(307, b"", {"Location": there.url + GCS_SIGNED})) as here,
    ):
        assert put(small, here.url + TARGET, if_absent=True).status == "present"
    assert conditions(there.requests[0]) == [GENERATION]


def test_a_redirect_keeps_the_condition(small: Path) -> None:
    with raw_server(EXISTS) as there:
        away = answer(307, b"", {"Location": there.url.replace("127.0.0.1", "localhost") + TARGET})
        with raw_server(away) as here:
            assert put(small, here.url + TARGET, if_absent=True).status == "present"
    assert conditions(there.requests[0]) == [IF_NONE_MATCH]

"""What only a store in a bucket does: keys and big objects of S3, everything a network does to its
requests, and the mistakes that a user can make with it.

`test_store_contract` tests what every store promises.
"""

import os
import pickle
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from buckets import entered, fresh_url
from builders import ablation, commit_all, planned, shard_result, tiny, where
from faulty_proxy import FaultyProxy, Kind, faulty_proxy
from moto_server import moto_server
from seaweed import HOST, S3Server, Seaweed, free_port, seaweed

from cluster.deletion import delete, doomed
from jobs.experiments import EXPERIMENTS
from pcworker.errors import InputError, StoreError, UnavailableError
from pcworker.store.commit import commit_shard, read_commit, read_file
from pcworker.store.keys import SweepKeys
from pcworker.store.s3 import s3
from pcworker.store.s3.s3 import S3Store
from pcworker.store.tables import SHARD_TABLES
from pcworker.trials.trial import Trial

ATTEMPTS = 4
PART = 5 * 2**20  # the smallest that S3 takes
KEY = "sweeps/a/commit.json"


@pytest.fixture(scope="module")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    with seaweed(tmp_path_factory.mktemp("seaweed")) as running:
        yield running


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Server]:
    with moto_server() as running:
        yield running


@pytest.fixture(autouse=True)
def few_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store tries few times, with short pauses."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", str(ATTEMPTS))
    monkeypatch.setattr(s3, "LONGEST_PAUSE_SECONDS", 0.1)


@pytest.fixture(params=["seaweed", "moto"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    if request.param == "moto":
        return entered(request.getfixturevalue("moto"), monkeypatch)
    return entered(request.getfixturevalue("weed").server, monkeypatch)


@pytest.fixture
def on_seaweed(weed: Seaweed, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    return entered(weed.server, monkeypatch)


@pytest.fixture
def on_moto(moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    return entered(moto, monkeypatch)


@pytest.fixture
def store(server: S3Server) -> S3Store:
    return S3Store(fresh_url(server))


@pytest.fixture
def direct(on_seaweed: S3Server) -> S3Store:
    return S3Store(fresh_url(on_seaweed))


@pytest.fixture
def proxy(on_seaweed: S3Server) -> Iterator[FaultyProxy]:
    """Before SeaweedFS, which checks signatures."""
    with faulty_proxy(on_seaweed.endpoint) as running:
        yield running


@pytest.fixture
def behind(direct: S3Store, proxy: FaultyProxy) -> S3Store:
    """`direct` again, through the proxy."""
    return S3Store(direct.url, proxy.endpoint)


def every_use(store: S3Store) -> list[Callable[[], object]]:
    return [
        lambda: store.get("a/b"),
        lambda: store.put("a/b", b"1"),
        lambda: store.put_if_absent("a/b", b"1"),
        lambda: store.list("a/"),
        lambda: store.delete("a/b"),
        store.check,
    ]


def assert_refused(use: Callable[[], object], *mentioned: str) -> StoreError:
    """The error, which is one line that says what is mentioned."""
    with pytest.raises(StoreError) as caught:
        use()
    assert isinstance(caught.value, InputError)
    assert "\n" not in str(caught.value)
    for word in mentioned:
        assert word in str(caught.value)
    return caught.value


# Keys


def test_list_shows_no_folders_that_a_console_has_made(server: S3Server, store: S3Store) -> None:
    store.put("a/1", b"1")
    marker = store.describe("a/b").removeprefix(f"s3://{server.bucket}/") + "/"
    server.client().put_object(Bucket=server.bucket, Key=marker)
    assert store.list("a/") == ["a/1"]


def test_list_shows_no_name_that_leads_outside(on_moto: S3Server) -> None:
    """S3 takes every name, as moto does. Whoever reads such a key is told that it leaves the store,
    and would read nothing else."""
    store = S3Store(fresh_url(on_moto))
    store.put("a/1", b"1")
    root = store.describe("a/b").removeprefix(f"s3://{on_moto.bucket}/").removesuffix("b")
    for name in ("../x", "b/../../x", "./x", "b//x"):
        on_moto.client().put_object(Bucket=on_moto.bucket, Key=root + name, Body=b"")
    assert store.list("a/") == ["a/1"]


def test_list_gives_more_keys_than_a_page_holds(on_seaweed: S3Server) -> None:
    store = S3Store(fresh_url(on_seaweed))
    keys = [f"a/{k:04}" for k in range(1003)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put(key, b""), keys))
    assert store.list("a/") == keys


def test_stores_of_other_prefixes_see_nothing_of_each_other(server: S3Server) -> None:
    url = fresh_url(server)
    short, long, below = S3Store(url), S3Store(url + "er"), S3Store(url + "/a")
    for store in (short, long, below):
        assert store.put_if_absent("a/key", store.url.encode())
    for store in (short, long, below):
        assert store.get("a/key") == store.url.encode()
    assert short.list("a/") == ["a/a/key", "a/key"]
    assert long.list("a/") == below.list("a/") == ["a/key"]


def test_a_whole_bucket_is_a_store(server: S3Server) -> None:
    bucket = server.with_new_bucket().bucket
    store = S3Store(f"s3://{bucket}")
    store.check()
    store.put("a/b", b"1")
    assert store.list("a/") == ["a/b"]
    assert store.url == f"s3://{bucket}"
    assert store.describe("a/b") == f"s3://{bucket}/a/b"


def test_describe_is_the_url_of_the_object(server: S3Server, store: S3Store) -> None:
    assert store.describe("a/b") == f"{store.url}/a/b"
    store.put("a/b", b"1")
    name = store.describe("a/b").removeprefix(f"s3://{server.bucket}/")
    assert server.client().get_object(Bucket=server.bucket, Key=name)["Body"].read() == b"1"


def test_a_pickled_store_holds_no_secret_and_keeps_its_endpoint(
    on_seaweed: S3Server, direct: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct.put("a", b"1")
    named = S3Store(direct.url, on_seaweed.endpoint)
    for travelling in (direct, named):
        pickled = pickle.dumps(travelling)
        assert on_seaweed.secret_key.encode() not in pickled
        assert on_seaweed.access_key.encode() not in pickled
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    assert pickle.loads(pickle.dumps(named)).get("a") == b"1"


# Big objects


def head(server: S3Server, store: S3Store, key: str) -> dict[str, Any]:
    """What the server says of an object."""
    name = store.describe(key).removeprefix(f"s3://{server.bucket}/")
    return dict(server.client().head_object(Bucket=server.bucket, Key=name))


def etag(server: S3Server, store: S3Store, key: str) -> str:
    return str(head(server, store, key)["ETag"]).strip('"')


def test_big_data_go_in_parts(
    server: S3Server, store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "UPLOAD_BYTES", PART)
    for size, parts in ((PART, ""), (2 * PART + 1, "-3")):
        data = os.urandom(size)
        store.put("a/big", data)
        assert store.get("a/big") == data
        assert etag(server, store, "a/big")[32:] == parts


def test_a_browser_is_told_what_a_page_is(
    server: S3Server, store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "UPLOAD_BYTES", PART)
    for data in (b"<p>", os.urandom(PART + 1)):
        store.put("a/index.html", data)
        assert head(server, store, "a/index.html")["ContentType"] == "text/html"


@pytest.mark.long
def test_what_is_really_big_goes_in_parts(on_seaweed: S3Server) -> None:
    store = S3Store(fresh_url(on_seaweed))
    data = os.urandom(2**20) * 65
    store.put("a/big", data)
    assert store.get("a/big") == data
    assert etag(on_seaweed, store, "a/big")[32:] == "-2"


def test_a_part_that_fails_is_sent_again(
    proxy: FaultyProxy, behind: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "UPLOAD_BYTES", PART)
    proxy.inject("internal error", "PUT", "partNumber=1")
    proxy.inject("lose answer", "PUT", "partNumber=2", times=2)
    proxy.inject("close", "POST", "uploadId")
    data = os.urandom(2 * PART + 1)
    behind.put("a/big", data)
    assert behind.get("a/big") == data
    assert proxy.injected == {"internal error": 1, "lose answer": 2, "close": 1}


# Faults

BURSTS: list[Kind] = ["slow down", "internal error", "close", "lose answer"]


@pytest.mark.parametrize("kind", BURSTS)
def test_bursts_of_faults_are_survived(proxy: FaultyProxy, behind: S3Store, kind: Kind) -> None:
    times = 1 if kind == "slow down" else 2  # after it boto3 pauses for longer
    for method in ("PUT", "GET", "DELETE"):
        proxy.inject(kind, method, times=times)
    behind.put("a/b", b"1")
    assert behind.get("a/b") == b"1"
    proxy.inject(kind, "GET", "list-type", times=times)
    assert behind.list("a/") == ["a/b"]
    behind.delete("a/b")
    proxy.inject(kind, "PUT", times=2)
    proxy.inject(kind, "GET", times=2)
    assert behind.put_if_absent("a/b", b"mine")
    assert behind.get("a/b") == b"mine"
    assert not behind.put_if_absent("a/b", b"other")
    assert proxy.injected[kind] == 4 * times + 4


def test_a_server_that_hangs_is_asked_again(
    direct: S3Store, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "READ_SECONDS", 1)
    behind = S3Store(direct.url, proxy.endpoint)
    for method in ("PUT", "GET"):
        proxy.inject("hang", method)
    behind.put("a/b", b"1")
    assert behind.get("a/b") == b"1"
    proxy.inject("hang", "PUT")
    assert behind.put_if_absent("a/c", b"mine")
    proxy.inject("hang", "GET")
    assert behind.list("a/") == ["a/b", "a/c"]
    assert proxy.injected == {"hang": 4}


def test_an_answer_that_ends_half_way_is_asked_for_again(
    proxy: FaultyProxy, behind: S3Store
) -> None:
    data = os.urandom(300_000)
    behind.put("a/b", data)
    proxy.inject("truncate", "GET", times=3)
    assert behind.get("a/b") == data
    proxy.inject("truncate", "GET", "list-type", times=2)
    assert behind.list("a/") == ["a/b"]
    assert proxy.injected == {"truncate": 5}


def test_bytes_that_change_on_their_way_are_asked_for_again(
    proxy: FaultyProxy, behind: S3Store
) -> None:
    behind.put("a/b", b"right")
    proxy.inject("damage", "GET", times=2)
    assert behind.get("a/b") == b"right"
    assert proxy.injected == {"damage": 2}


def test_a_conditional_write_whose_answer_is_lost_was_made(
    direct: S3Store, proxy: FaultyProxy, behind: S3Store
) -> None:
    proxy.inject("lose answer", "PUT")
    assert behind.put_if_absent(KEY, b"mine")
    assert direct.get(KEY) == b"mine"
    assert (proxy.injected, proxy.passed) == ({"lose answer": 1}, {"GET": 1})  # no second PUT


def test_the_rival_wins_who_came_first_behind_a_lost_answer(
    direct: S3Store, proxy: FaultyProxy, behind: S3Store
) -> None:
    for kind in ("close", "lose answer", "slow down", "internal error"):
        key = f"{kind}/commit.json"
        proxy.inject(kind, "PUT", first=lambda key=key: direct.put(key, b"the rival's"))  # type: ignore[misc]
        assert not behind.put_if_absent(key, b"mine")
        assert direct.get(key) == b"the rival's"
    assert proxy.passed == {"GET": 4}


@pytest.mark.parametrize(("arrived", "mine"), [(b"mine", True), (b"the rival's", False)])
def test_a_refusal_after_an_unclear_try_is_decided_by_the_bytes(
    direct: S3Store, proxy: FaultyProxy, behind: S3Store, arrived: bytes, mine: bool
) -> None:
    """The first try, thought lost, or a rival's write arrives just before the second one."""
    proxy.inject("close", "PUT")
    proxy.inject("pass", "PUT", first=lambda: direct.put(KEY, arrived))
    assert behind.put_if_absent(KEY, b"mine") is mine
    assert direct.get(KEY) == arrived
    assert proxy.passed == {"GET": 2, "PUT": 1}


def test_a_conflict_is_decided_by_what_is_there(
    direct: S3Store, proxy: FaultyProxy, behind: S3Store
) -> None:
    proxy.inject("conflict", "PUT", first=lambda: direct.put("lost", b"the rival's"))
    assert not behind.put_if_absent("lost", b"mine")
    proxy.inject("conflict", "PUT", times=ATTEMPTS - 1)
    assert behind.put_if_absent("won", b"mine")
    assert direct.get("won") == b"mine"
    proxy.inject("conflict", "PUT", times=ATTEMPTS)
    with pytest.raises(UnavailableError, match="ConditionalRequestConflict"):
        behind.put_if_absent("neither", b"mine")
    assert direct.get("neither") is None


def test_a_server_that_is_down_for_long_is_unavailable(proxy: FaultyProxy, behind: S3Store) -> None:
    proxy.down = True
    for use, requests in zip(every_use(behind), (1, 1, 2, 1, 1, 1), strict=True):
        before = proxy.requests
        error = assert_refused(use, behind.url, proxy.endpoint, "check the endpoint")
        assert isinstance(error, UnavailableError)
        assert before + ATTEMPTS <= proxy.requests < before + requests * ATTEMPTS + 1
    proxy.down = False
    behind.check()


@pytest.mark.parametrize("kind", ["slow down", "internal error"])
def test_a_server_that_is_overloaded_for_long_is_unavailable(
    proxy: FaultyProxy, behind: S3Store, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    behind = S3Store(behind.url, proxy.endpoint)
    for method in ("GET", "PUT", "DELETE"):
        proxy.inject(kind, method, times=100)
    for use in every_use(behind):
        assert isinstance(assert_refused(use, behind.url, "by the proxy"), UnavailableError)


def test_a_server_that_comes_back_has_kept_everything(weed: Seaweed, on_seaweed: S3Server) -> None:
    store = S3Store(fresh_url(on_seaweed))
    assert store.put_if_absent(KEY, b"mine")
    weed.stop(signal.SIGKILL)
    try:
        for use in every_use(store):
            assert isinstance(assert_refused(use, "does not answer"), UnavailableError)
    finally:
        weed.start()
    assert store.get(KEY) == b"mine"
    assert not store.put_if_absent(KEY, b"other")


@pytest.mark.parametrize(
    ("kind", "remedy"), [("skewed clock", "clock of this machine"), ("expired token", "log in")]
)
def test_refusals_say_what_to_do(
    proxy: FaultyProxy, behind: S3Store, kind: Kind, remedy: str
) -> None:
    for method in ("GET", "PUT", "DELETE"):
        proxy.inject(kind, method, times=100)
    for number, use in enumerate(every_use(behind), start=1):
        error = assert_refused(use, behind.url, remedy)
        assert not isinstance(error, UnavailableError)
        assert proxy.requests == number  # waiting does not help


def test_a_store_that_ignores_conditions_is_refused(on_moto: S3Server) -> None:
    """Over moto only: SeaweedFS minds that a signed header is missing."""
    with faulty_proxy(on_moto.endpoint) as proxy:
        store = S3Store(fresh_url(on_moto), proxy.endpoint)
        proxy.inject("forget condition", "PUT", times=2)
        assert_refused(store.check, store.url, proxy.endpoint, "ignores If-None-Match", "JuiceFS")
        assert proxy.injected == {"forget condition": 2}
        assert store.list("probe/") == []
        store.check()


# The commit


def test_a_commit_whose_answer_is_lost_is_committed(
    direct: S3Store, proxy: FaultyProxy, behind: S3Store
) -> None:
    keys, shard = SweepKeys("tiny"), "0000-aaaaaaaa"
    result = shard_result([Trial(tiny("BP"), 1), Trial(tiny("Z-IL"), 1)])
    proxy.inject("lose answer", "PUT", r"commit\.json$")
    assert commit_shard(behind, keys, shard, "first", result, SHARD_TABLES, where()) == "committed"
    assert proxy.injected == {"lose answer": 1}
    found = read_commit(direct, keys, shard)
    assert found is not None
    assert found.attempt_id == "first"
    for file in found.files:
        assert read_file(direct, file, keys.commit(shard)).num_rows > 0
    assert commit_shard(behind, keys, shard, "second", result, SHARD_TABLES, where()) == "lost"
    other = shard_result([Trial(tiny("BP"), 1), Trial(tiny("Z-IL"), 1)], lambda trial: 0.25)
    assert commit_shard(behind, keys, shard, "third", other, SHARD_TABLES, where()) == "differs"
    assert read_commit(behind, keys, shard) == found


def test_a_rival_who_commits_behind_a_closed_connection_has_won(
    direct: S3Store, proxy: FaultyProxy, behind: S3Store
) -> None:
    keys, shard = SweepKeys("tiny"), "0000-aaaaaaaa"
    result = shard_result([Trial(tiny("Z-IL"), 1)])
    proxy.inject(
        "close", "PUT", r"commit\.json$",
        first=lambda: commit_shard(direct, keys, shard, "rival", result, SHARD_TABLES, where()),
    )  # fmt: skip
    assert commit_shard(behind, keys, shard, "first", result, SHARD_TABLES, where()) == "lost"
    found = read_commit(direct, keys, shard)
    assert found is not None
    assert found.attempt_id == "rival"


# Mistakes


@pytest.mark.parametrize(
    "url",
    [
        "s3://", "s3:///a", "s3://b", "s3://bucket//a", "s3://bucket/../a", "s3://bucket/a/./b",
        "s3://bucket/a\nb", "s3://buck et", "s3://user:planted@bucket/a", "s3://planted@bucket",
        "s3://bucket:80/a", "s3://-bucket", "s3://bucket\n/a", "S3:bucket",
    ],
)  # fmt: skip
def test_a_malformed_url_is_refused(url: str) -> None:
    assert "planted" not in str(assert_refused(lambda: S3Store(url)))


ENDPOINTS = [
    "", "host", "host:9000", "http://", "ftp://host", "http://user:planted@host",
    "http://planted@host", "http://host:port", "http://host?a=planted", "http://[planted",
    "http://user:planted@ho st", "http://host/#planted",
]  # fmt: skip


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_malformed_endpoint_is_refused_without_repeating_it(endpoint: str) -> None:
    assert "planted" not in str(assert_refused(lambda: S3Store("s3://bucket", endpoint)))


@pytest.mark.parametrize(
    ("name", "endpoint"),
    [
        *(("AWS_ENDPOINT_URL_S3", endpoint) for endpoint in ENDPOINTS if endpoint),
        ("AWS_ENDPOINT_URL", "http://user:planted@host"),
    ],
)
def test_so_is_that_of_the_environment(
    name: str, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, endpoint)
    error = assert_refused(lambda: S3Store("s3://bucket"))
    assert "planted" not in str(error)
    assert error.__cause__ is None


@pytest.mark.parametrize("attempts", ["many", "-1"])
def test_a_malformed_number_of_attempts_is_refused(
    attempts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", attempts)
    assert_refused(lambda: S3Store("s3://bucket"), "check", "environment")


def test_wrong_credentials_are_refused_without_repeating_the_secret(
    on_seaweed: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    store = S3Store(fresh_url(on_seaweed))
    for use in every_use(store):
        error = assert_refused(use, store.url, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY")
        assert not isinstance(error, UnavailableError)
        assert "planted" not in str(error)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    for use in every_use(S3Store(store.url)):
        error = assert_refused(use, store.url, "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID")
        assert "planted" not in str(error)


def test_no_credentials_at_all_are_an_error(
    on_seaweed: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    store = S3Store(fresh_url(on_seaweed))
    for use in every_use(store):
        assert_refused(use, "no credentials", "AWS_ACCESS_KEY_ID", "AWS_PROFILE")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    for use in every_use(S3Store(store.url)):
        assert_refused(use, "no credentials", "AWS_ACCESS_KEY_ID", "AWS_PROFILE")


def test_a_deleted_sweep_is_gone_and_its_neighbour_is_whole(on_seaweed: S3Server) -> None:
    store = S3Store(fresh_url(on_seaweed))
    sweep = ablation(networks=["784-2-10"])
    for name in ("a", "a-1"):
        commit_all(store, planned(store, sweep, name))
    neighbour = store.list("sweeps/a-1/")
    assert len(neighbour) > 2
    delete(store, doomed(store, "a", EXPERIMENTS), lambda gone: None)
    assert store.list("sweeps/") == neighbour


def test_a_profile_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nowhere")
    assert_refused(lambda: S3Store("s3://bucket"), "s3://bucket", "nowhere", "profile")


def test_a_region_is_not_needed(on_seaweed: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    S3Store(fresh_url(on_seaweed)).check()


def test_a_bucket_that_is_not_there_is_an_error(on_moto: S3Server) -> None:
    store = S3Store("s3://nowhere/a")
    for use in every_use(store):
        error = assert_refused(use, "s3://nowhere/a", "NoSuchBucket", "make the bucket")
        assert not isinstance(error, UnavailableError)


def test_check_does_not_make_the_bucket_that_is_not_there(on_seaweed: S3Server) -> None:
    """SeaweedFS makes it for a writer."""
    for _ in range(2):
        assert_refused(S3Store("s3://nowhere/a").check, "NoSuchBucket")


def test_an_endpoint_where_nobody_listens_is_unavailable(on_seaweed: S3Server) -> None:
    endpoint = f"http://{HOST}:{free_port()}"
    store = S3Store("s3://bucket/a", endpoint)
    for use in every_use(store):
        error = assert_refused(use, "s3://bucket/a", endpoint, "does not answer")
        assert isinstance(error, UnavailableError)


def test_a_server_of_another_kind_is_an_error(weed: Seaweed, on_seaweed: S3Server) -> None:
    store = S3Store("s3://bucket/a", f"http://{HOST}:{weed.ports['master']}")
    assert_refused(store.check, "s3://bucket/a", "check the endpoint")

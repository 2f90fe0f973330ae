"""Reading versions out of folders of dated snapshots."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest

from ingest.history import SnapshotFolderError, file_contents, file_versions, time_in_name
from lakehouse.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder for snapshots."""
    made = tmp_path / "snapshots"
    made.mkdir()
    return made


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


EVENING = datetime(2021, 3, 8, 18, 35, 2, tzinfo=UTC)
MIDNIGHT = datetime(2021, 3, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("20210308T183502Z.json", EVENING),
        ("00355_20210308T183502Z_5901a2a6.json", EVENING),
        ("2021-03-08T18:35:02Z.json", EVENING),
        ("2021-03-08T18:35:02.json", EVENING),
        ("2021-03-08t18:35:02z.json", EVENING),
        ("fires-2021-03-08_18-35-02.csv", EVENING),
        ("fires.2021-03-08 18.35.02.csv", EVENING),
        ("2021.03.08.18.35.02.csv", EVENING),
        ("2021_03_08_18_35_02", EVENING),
        ("fires20210308183502.jsonl", EVENING),
        ("20210308-183502-copy.json", EVENING),
        ("2021-03-08T18:35:02.5Z.json", EVENING + timedelta(milliseconds=500)),
        ("2021-03-08T18:35:02.1234567Z.json", EVENING + timedelta(microseconds=123456)),
        ("2021-03-08T19:35:02+01:00.json", EVENING),
        ("20210308T193502+0100.json", EVENING),
        ("2021-03-08_19-35-02+01:00.json", EVENING),
        ("2021-03-08T13:35:02-05:00.json", EVENING),
        ("2021-03-08T23:35:02+05:00_x.json", EVENING),
        ("2021-03-08_18-35-02-0500.json", EVENING),  # a counter as likely as an offset
        ("2021-03-08T18:35Z.json", EVENING.replace(second=0)),
        ("202103081835.json", EVENING.replace(second=0)),
        ("2021-03-08T18Z.json", EVENING.replace(minute=0, second=0)),
        ("2021030818.json", EVENING.replace(minute=0, second=0)),
        ("2021-03-08.json", MIDNIGHT),
        ("20210308.json", MIDNIGHT),
        ("2021_03_08-fires.geojson", MIDNIGHT),
        ("2021-03-08_12.json", MIDNIGHT),  # the twelfth of that day as likely as noon
        ("2021-03-08T99:99.json", MIDNIGHT),
        ("2021/03/08.json", MIDNIGHT),
        ("2021/03/08/fires.json", MIDNIGHT),
        ("2021/03/08/183502.json", EVENING),
        ("2020/2021-03-08.json", MIDNIGHT),
        ("20210308/fires-20210308.json", MIDNIGHT),
        ("1615228502.json", EVENING),
        ("fires-1615228502.json", EVENING),
        ("1615228502123_fires.json", EVENING + timedelta(milliseconds=123)),
        ("2024-02-29.json", datetime(2024, 2, 29, tzinfo=UTC)),
    ],
)
def test_a_time_is_read_from_the_name(name: str, expected: datetime) -> None:
    assert time_in_name(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "fires.json",
        "08-03-2021.json",
        "2021-03.json",
        "2021.json",
        "2021-0308.json",
        "2021-13-08.json",
        "2021-02-30.json",
        "120210308.json",
        "202103081.json",
        "18350308.json",
        "a1615228502.json",
        "16152285021.json",
        "2021-03-08_to_2021-03-15.json",
        "1615228502-1615228503.json",
        "2021-03-08T18:35:02+99:00.json",
    ],
)
def test_a_name_that_tells_no_single_time_is_not_guessed_at(name: str) -> None:
    assert time_in_name(name) is None


def test_snapshots_are_numbered_in_order_of_their_times(folder: Path) -> None:
    put(
        folder, "b-2021-01-02.json", "a-2021-01-03.json", "z_1609459200.json", ".2020-01-01.json", "README.md"
    )
    versions = file_versions(folder)
    assert [(version.n, version.revision) for version in versions] == [
        (1, "z_1609459200.json"),
        (2, "b-2021-01-02.json"),
        (3, "a-2021-01-03.json"),
    ]
    assert [raw for _, raw in file_contents(folder, versions)] == [v.path.encode() for v in versions]


def test_equal_neighbours_come_as_the_same_object(folder: Path) -> None:
    for day, content in enumerate([b"[1]" * 100, b"[1]" * 100, b"[2]", b"[1]"], start=1):
        (folder / f"2021-01-0{day}.json").write_bytes(content)
    got = [raw for _, raw in file_contents(folder, file_versions(folder))]
    assert got[1] is got[0]
    assert got[1:] == [b"[1]" * 100, b"[2]", b"[1]"]


def test_a_name_without_a_time_is_named_with_what_to_pass(folder: Path) -> None:
    put(folder, "2021-01-01.json", "latest.json")
    with pytest.raises(SnapshotFolderError, match=r"latest.json: .*\n.*--time-from mtime") as caught:
        file_versions(folder)
    assert isinstance(caught.value, UserError)


def test_two_snapshots_of_one_day_are_refused_but_two_of_one_second_are_kept(folder: Path) -> None:
    put(folder, "20210308T183502Z_a.json", "20210308T183502Z_b.json")
    assert [version.path[-6] for version in file_versions(folder)] == ["a", "b"]
    put(folder, "2021-01-01_1.json", "2021-01-01_2.json")
    with pytest.raises(SnapshotFolderError, match=r"2021-01-01_1.json and 2021-01-01_2.json: .*same time"):
        file_versions(folder)


def test_a_pattern_chooses_the_snapshots_and_reaches_into_folders(folder: Path) -> None:
    put(
        folder,
        "2021/03/08.json",
        "2021/03/09.json",
        "2021/03/09.csv",
        "a-2022-01-01.json",
        "b-2022-01-02.json",
    )
    assert [v.path for v in file_versions(folder, pattern="a-*")] == ["a-2022-01-01.json"]
    deep = file_versions(folder, pattern="2021/**/*.json")
    assert [(version.path, version.time.day) for version in deep] == [
        ("2021/03/08.json", 8),
        ("2021/03/09.json", 9),
    ]
    assert len(file_versions(folder, pattern="**/*.json")) == 4


@pytest.mark.parametrize("pattern", ["", "/etc/*", "../*/*.json", "**x/*.json"])
def test_a_pattern_that_leaves_the_folder_or_is_none_is_refused(folder: Path, pattern: str) -> None:
    put(folder, "2021-01-01.json")
    with pytest.raises(SnapshotFolderError):
        file_versions(folder, pattern=pattern)


def test_snapshots_of_several_kinds_need_a_pattern(folder: Path) -> None:
    put(folder, "2021-01-01.json", "2021-01-02.csv")
    with pytest.raises(SnapshotFolderError, match=r"\.csv, \.json\n.*--pattern"):
        file_versions(folder)
    assert len(file_versions(folder, pattern="*.csv")) == 1


def test_a_folder_without_snapshots_says_what_was_looked_for(folder: Path) -> None:
    put(folder, "2021-01-01.txt")
    with pytest.raises(SnapshotFolderError, match=r"no file ends in \.json"):
        file_versions(folder)
    with pytest.raises(SnapshotFolderError, match=r"no file matches '\*\.xml'"):
        file_versions(folder, pattern="*.xml")
    with pytest.raises(SnapshotFolderError, match="no such folder"):
        file_versions(folder / "nowhere")


def test_the_mtime_counts_only_when_asked_for_and_to_the_microsecond(folder: Path) -> None:
    put(folder, "a.json", "b.json")
    os.utime(folder / "a.json", ns=(0, 1_615_228_502_123_456_789))
    os.utime(folder / "b.json", ns=(0, 1_615_228_501_999_999_999))
    versions = file_versions(folder, "mtime")
    assert [(version.path, version.time) for version in versions] == [
        ("b.json", EVENING - timedelta(microseconds=1)),
        ("a.json", EVENING + timedelta(microseconds=123_456)),
    ]
    with pytest.raises(SnapshotFolderError, match=r"a\.json"):
        file_versions(folder)


# --- index.csv ----------------------------------------------------------------------------------


def index(folder: Path, *lines: str, header: str = "n,author_time_utc,file") -> None:
    (folder / "index.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")


def test_an_index_gives_files_numbers_and_times(folder: Path) -> None:
    put(folder, "a.json", "b.json", "c.json", "not-listed.json")
    index(
        folder,
        "12,2021-03-08 18:35:02,c.json",
        "10,2021-03-08T18:35:02Z,a.json",
        "11,2021-03-08T19:35:01+01:00,b.json",
    )
    versions = file_versions(folder)
    assert [(version.n, version.path) for version in versions] == [
        (10, "a.json"),
        (11, "b.json"),
        (12, "c.json"),
    ]
    assert [version.time for version in versions] == [EVENING, EVENING - timedelta(seconds=1), EVENING]
    assert [version.n for version in file_versions(folder, pattern="[ac].json")] == [10, 12]
    with pytest.raises(SnapshotFolderError, match=r"a\.json"):
        file_versions(folder, "name")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("2,2021-03-08T18:35:02Z,gone.json", "line 3: gone.json is not there"),
        ("2,2021-03-08T18:35:02Z,../secret.json", "not the name of a file in the folder"),
        ("2,2021-03-08T18:35:02Z,/etc/passwd", "not the name of a file in the folder"),
        ("2,2021-03-08T18:35:02Z,", "not the name of a file in the folder"),
        ("2,yesterday,b.json", "line 3: b.json: no number or no time"),
        ("two,2021-03-08T18:35:02Z,b.json", "line 3: b.json: no number or no time"),
        ("1,2021-03-08T18:35:02Z,b.json", "number 1 .* there twice"),
        ("0,2021-03-08T18:35:02Z,b.json", "number 0 .* below 1"),
        ("2,2021-03-08T18:35:02Z,a.json", "a.json is there twice"),
        ('2,2021-03-08T18:35:02Z,"b.json', "is not CSV"),
    ],
)
def test_an_index_with_a_wrong_line_is_refused(folder: Path, line: str, complaint: str) -> None:
    put(folder, "a.json", "b.json")
    index(folder, "1,2021-03-08T18:35:02Z,a.json", line)
    with pytest.raises(SnapshotFolderError, match=complaint):
        file_versions(folder)


def test_an_index_that_is_absent_or_lacks_columns_says_so(folder: Path) -> None:
    put(folder, "2021-01-01.json")
    with pytest.raises(SnapshotFolderError, match=r"no index\.csv"):
        file_versions(folder, "index")
    index(folder, header="n,file")
    with pytest.raises(SnapshotFolderError, match="no column author_time_utc"):
        file_versions(folder)
    (folder / "index.csv").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(SnapshotFolderError, match="UTF-8"):
        file_versions(folder)


def test_a_snapshot_that_vanishes_is_named(folder: Path) -> None:
    put(folder, "2021-01-01.json", "2021-01-02.json")
    versions = file_versions(folder)
    (folder / "2021-01-02.json").unlink()
    stream = file_contents(folder, versions)
    next(stream)
    with pytest.raises(SnapshotFolderError, match=r"2021-01-02\.json: cannot be read"):
        next(stream)


# --- Against the oracle -------------------------------------------------------------------------


def test_a_real_window_reads_as_the_oracle_reads_it(oracle: ModuleType, real_window: Path) -> None:
    expected = oracle.versions(str(real_window), "incidents.json")
    versions = file_versions(real_window)
    assert [(v.n, v.time, str(real_window / v.path)) for v in versions] == [
        (v.n, v.time, v.blob) for v in expected
    ]
    raws = [raw for _, raw in oracle.contents(str(real_window), expected)]
    assert [raw for _, raw in file_contents(real_window, versions)] == raws


def test_names_and_mtimes_of_a_real_window_tell_what_its_index_tells(real_window: Path) -> None:
    times = [(version.path, version.time) for version in file_versions(real_window, "index")]
    assert [(version.path, version.time) for version in file_versions(real_window, "name")] == times
    assert {(version.path, version.time) for version in file_versions(real_window, "mtime")} == set(times)

"""What Google says in words, where the emulator says something else."""

import json

import pytest

from lakehouse.store.gcs import _Answer, _failure

NO_OBJECT = "No such object: my-bucket/lake/lakehouse.json"
NO_BUCKET = "The specified bucket does not exist."


@pytest.mark.parametrize(("said", "kind"), [(NO_OBJECT, "absent"), (NO_BUCKET, "no bucket")])
@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
def test_an_object_that_is_not_there_is_no_bucket_that_is_not_there(
    said: str, kind: str, as_json: bool
) -> None:
    """The name of the bucket, or of a source, may have the word in it."""
    content = json.dumps({"error": {"code": 404, "message": said}}) if as_json else said
    assert _failure(_Answer(404, {}, content.encode()), "storage.objects.get").kind == kind

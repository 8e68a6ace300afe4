"""A dry run refuses the names that the hub would refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from sottovoce.errors import PublishError, UsageError
from sottovoce_hub import push


@pytest.mark.parametrize("hub", ["hf", "modelscope"])
@pytest.mark.parametrize("name", ["a", "a/b/c", "me/a--b", "me/a..b", "me/.a", "me/ä", ".me/a", "me/a?"])
def test_what_is_no_name_on_either_hub_fails_a_dry_run(name: str, hub: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a repository is named owner/name"):
        push(tmp_path, name, hub=hub, dry_run=True)


@pytest.mark.parametrize("name", ["me/a.git", "me/a-", "me/a.", "me/" + 97 * "x"])
def test_what_hugging_faces_client_refuses_fails_a_dry_run(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Hugging Face's hub takes no such name"):
        push(tmp_path, name, hub="hf", dry_run=True)


def test_a_branch_that_modelscope_refuses_fails_a_dry_run(tmp_path: Path) -> None:
    from sottovoce_hub.hubs import open_destination

    with pytest.raises(PublishError, match="is not a valid branch"):
        open_destination("modelscope", "me/a", branch="a..b")

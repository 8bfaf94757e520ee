"""Prompts: drawn by seed and number from lists, or the lines of a file."""

import pytest

from dap_engine.models.generation.prompts import Words, read_prompts


def test_a_prompt_follows_from_seed_and_number():
    words = Words()
    prompts = [words.compose(7, number) for number in range(500)]
    assert prompts == [words.compose(7, number) for number in range(500)]
    assert prompts != [words.compose(8, number) for number in range(500)]
    assert len(set(prompts)) > 350
    for listed in (words.rooms, words.styles, words.lights):
        assert all(any(word in prompt for prompt in prompts) for word in listed)


def test_lists_and_template_are_the_user_s():
    words = Words(rooms=["a cave"], styles=["wet"], lights=["lit by a torch"], template="{style}: {room} {light}")
    assert words.compose(0, 5) == "wet: a cave lit by a torch"
    with pytest.raises(ValueError, match="one entry each"):
        Words(rooms=[])
    with pytest.raises(ValueError, match="its places are"):
        Words(template="{roof}")


def test_a_file_has_a_prompt_a_line(tmp_path):
    (tmp_path / "prompts.txt").write_text("# rooms\na kitchen\n\n  a loft  \n")
    assert read_prompts(str(tmp_path / "prompts.txt")) == ["a kitchen", "a loft"]
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(ValueError, match="holds no prompt"):
        read_prompts(str(tmp_path / "empty.txt"))

"""Two attempts of one shard overlap: one receipt is left, and at no instant is one trusted that does not agree."""

import itertools
import random

import pytest

from dap_engine.engine.rundir.rundir import RunDir
from dap_engine.engine.storage.storage import Output
from tests.engine.stepwise import SHARD, Attempt, Log, finish, play
from tests.runs import result_of

ZOMBIE, HEIR = 0, 1
PAIRS = {  # what the attempts write: never of different sizes, which would be noticed by the size alone
    "the same bytes": (Log("same", asked="both"), Log("same", asked="both")),
    "other bytes": (Log("left", asked="both"), Log("last", asked="both")),
    "another recipe, the same bytes": (Log("same", asked="left"), Log("same", asked="last")),
    "another recipe": (Log("left", asked="left"), Log("last", asked="last")),
}
FAST = "another recipe"
MOST_STEPS = 40  # that an attempt takes


@pytest.fixture(scope="module")
def attempts(s3_endpoint):  # which sets the keys that the processes need
    pair = [Attempt(), Attempt()]
    yield pair
    for attempt in pair:
        attempt.kill()


class Overlap:
    """One run with two attempts at its shard."""

    def __init__(self, place, attempts, pair):
        self.run, self.attempts, self.pair = RunDir(place), attempts, pair
        self.lies = []
        for attempt, words in zip(attempts, pair, strict=True):
            attempt.begin(words, place)

    def play(self, order):
        play(order, self.attempts, self.look)

    def finish(self):
        finish(self.attempts, self.look)

    def look(self):
        """Were everything killed now, would the next run trust a receipt that does not agree?"""
        trusted = self.run.validated("words", by_mtime=True).receipts.get(SHARD)
        if trusted and (wrong := self.disagreements(trusted)):
            stand = [attempt.at or "at its end" for attempt in self.attempts]
            self.lies.append(f"{wrong} while the attempts stand before {stand}")

    def disagreements(self, receipt):
        outputs = [output for output in (receipt.output, receipt.drops_output) if isinstance(output, Output)]
        return [output.path for output in outputs if self.run.storage.hash_object(output.path) != output.sha256]

    def settle(self):
        """What is left agrees, and the same command ends with what it wants, whole."""
        left = self.run.receipt("words", SHARD)
        if left is None:
            errors = [attempt.outcome.error for attempt in self.attempts if attempt.outcome]
            assert len(errors) < 2 or any("OverlapError" in error for error in errors)
        else:
            assert self.disagreements(left) == []
        self.mend()
        assert self.lies == []

    def mend(self):
        wanted = self.pair[HEIR]
        assert result_of(self.run.uri, wanted).unfinished == []
        receipt = self.run.receipt("words", SHARD)
        assert receipt is not None
        assert self.disagreements(receipt) == []
        assert receipt.basis.settings == wanted.settings()
        assert result_of(self.run.uri, wanted).worked == 0


def below(place, name):
    """A run of its own."""
    base, question, options = place.partition("?")
    return f"{base}/{name}{question}{options}"


@pytest.mark.parametrize("place", ["local", pytest.param("s3", marks=pytest.mark.slow)], indirect=True)
@pytest.mark.parametrize(
    "pair", [*(pytest.param(pair, marks=pytest.mark.slow) for pair in PAIRS if pair != FAST), FAST]
)
def test_an_attempt_wakes_up_after_another_one_did_the_shard(place, attempts, pair):
    for slept_after in itertools.count():
        overlap = Overlap(below(place, slept_after), attempts, PAIRS[pair])
        overlap.play([ZOMBIE] * slept_after)
        if attempts[ZOMBIE].ended:
            break
        overlap.play([HEIR] * MOST_STEPS)
        overlap.finish()
        overlap.settle()
    assert slept_after > 5, "it never slept in the middle"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("pair", PAIRS)
def test_two_attempts_take_turns(place, attempts, pair, seed):
    rng = random.Random(f"{pair} {seed}")
    overlap = Overlap(place, attempts, PAIRS[pair])
    overlap.play(rng.choices([ZOMBIE, HEIR], k=2 * MOST_STEPS))
    overlap.finish()
    overlap.settle()


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 12))])
def test_attempts_are_killed_while_they_take_turns(place, attempts, seed):
    rng = random.Random(seed)
    overlap = Overlap(place, attempts, PAIRS[rng.choice(list(PAIRS))])
    overlap.play(rng.choices([ZOMBIE, HEIR], k=rng.randrange(MOST_STEPS)))
    for who in rng.choice([[ZOMBIE], [HEIR], [ZOMBIE, HEIR]]):
        attempts[who].kill()
    overlap.finish()
    overlap.mend()
    assert overlap.lies == []

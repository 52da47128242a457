"""Numbers of single findings over the frames of a stream or clip."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from edgeseg.core.decision import NOTHING
from edgeseg.core.spec import ClassSpec
from edgeseg.evaluation.detection import IdentityJudge
from edgeseg.inference.confidence import change
from edgeseg.inference.following import Follower, FollowQueue
from edgeseg.inference.instances import InstanceList, find_instances
from edgeseg.inference.segmenter import Segmentation, StageTimes
from edgeseg.phantom import PhantomClip

LESION = (ClassSpec("lesion", (255, 176, 0)),)
SIZE = (120, 200)


def draw(*places: tuple[int, int], size: tuple[int, int] = SIZE) -> InstanceList:
    labels: NDArray[np.uint8] = np.zeros(size, np.uint8)
    for x, y in places:
        labels[y : y + 20, x : x + 20] = 1
    return find_instances(labels, LESION)


def follow(follower: Follower, frame: int, *places: tuple[int, int], size: tuple[int, int] = SIZE) -> dict[int, int]:
    """Follow a frame; gives the number of each finding by the left edge of its box."""
    seen = follower.follow(draw(*places, size=size), frame / 30, size)
    return {one.box[0]: one.number for one in seen.instances}


def test_numbers_stay_while_findings_move() -> None:
    follower = Follower()
    first = follow(follower, 0, (10, 10), (100, 40))
    assert sorted(first.values()) == [1, 2]
    for frame in range(1, 20):
        now = follow(follower, frame, (10 + 3 * frame, 10), (100 + 2 * frame, 40))
        assert now == {10 + 3 * frame: first[10], 100 + 2 * frame: first[100]}
    (count,) = follower.report()
    assert (count.count, count.most_at_once, count.returned, count.changes_per_minute) == (2, 2, 0, 94.74)


def test_what_counts_as_nothing_is_not_counted() -> None:
    follower = Follower()
    for frame in range(3):
        drawn = draw((10, 10), (100, 40))
        nothing = tuple(change(one, state=NOTHING) for one in drawn.instances)
        seen = follower.follow(replace(drawn, instances=nothing), frame / 30, SIZE)
        assert [one.number for one in seen.instances] == [0, 0]
    assert [(one.count, one.most_at_once) for one in follower.report()] == [(0, 0)]
    # once it is found it is
    assert set(follow(follower, 3, (10, 10), (100, 40)).values()) == {1, 2}


def test_a_new_finding_gets_its_number_with_its_second_frame() -> None:
    follower = Follower()
    follow(follower, 0, (10, 10))
    assert follow(follower, 1, (10, 10), (100, 40)) == {10: 1, 100: 0}
    assert follow(follower, 2, (10, 10)) == {10: 1}
    assert follow(follower, 3, (10, 10), (100, 40)) == {10: 1, 100: 0}
    assert follow(follower, 4, (10, 10), (100, 40)) == {10: 1, 100: 2}


def test_what_comes_back_soon_is_the_same_and_later_another() -> None:
    follower = Follower()
    first = follow(follower, 0, (10, 10), (100, 40))
    for frame in range(1, 30):
        follow(follower, frame, (10, 10))
    assert follow(follower, 30, (10, 10), (103, 42))[103] == first[100]
    for frame in range(31, 120):
        follow(follower, frame, (10, 10))
    follow(follower, 120, (10, 10), (103, 42))
    assert follow(follower, 121, (10, 10), (103, 42))[103] == 3
    assert follower.report()[0].returned == 1


def test_other_scenes_begin_anew() -> None:
    follower = Follower()
    assert follow(follower, 0, (10, 10)) == {10: 1}
    # another size, then a pause: numbers go on, and none is given twice
    assert follow(follower, 1, (10, 10), size=(100, 100)) == {10: 2}
    assert follow(follower, 200, (10, 10), size=(100, 100)) == {10: 3}
    follower.forget()
    assert follow(follower, 201, (10, 10)) == {10: 1}
    # time that runs backwards is another scene, too
    assert follow(follower, 5, (10, 10)) == {10: 2}


def test_phantom_lesions_keep_their_numbers() -> None:
    follower, judge = Follower(), IdentityJudge()
    clip = PhantomClip(3, 1, size=(160, 160), lesions=3)
    for frame in range(12):
        truth = clip.frame(frame).numbers
        seen = find_instances(np.asarray(truth > 0, np.uint8), LESION)
        judge.take(truth, follower.follow(seen, frame / 30, (160, 160)).instances)
    told = judge.report()
    assert (told.switches, told.numbers, told.covered) == (0, told.truths, 1.0)


def test_a_switch_is_noticed() -> None:
    judge, truth = IdentityJudge(), np.zeros(SIZE, np.uint8)
    truth[10:30, 10:30] = 1
    for number in (1, 1, 2, 2, 1):
        (one,) = draw((10, 10)).instances
        judge.take(truth, [one.__class__(**{**one.__dict__, "number": number})])
    assert judge.report().switches == 2


def test_instances_are_followed_in_order_whoever_asks_first() -> None:
    frames = [draw((x, 20)) for x in (20, 24, 28)]
    seen: list[int] = []

    def see(place: int) -> InstanceList:
        seen.append(place)
        return frames[place]

    queue, follower = FollowQueue(), Follower()
    asked = [queue.add(partial(see, place), place / 30, SIZE, ()) for place in range(3)]
    assert not seen
    expected = [follower.follow(frame, place / 30, SIZE) for place, frame in enumerate(frames)]
    assert [asked[place]() for place in (2, 0, 1)] == [expected[place] for place in (2, 0, 1)]
    assert seen == [0, 1, 2]
    assert queue.report() == follower.report()


def test_frames_are_followed_together_once_so_many_wait() -> None:
    seen: list[int] = []

    def see(place: int) -> InstanceList:
        seen.append(place)
        return draw((20 + 4 * place, 20))

    queue = FollowQueue()
    for place in range(4):
        queue.add(partial(see, place), place / 30, SIZE, ())
        queue.catch_up(at_least=3)
    assert seen == [0, 1, 2]
    queue.report()
    assert seen == [0, 1, 2, 3]


def test_a_stream_does_not_wait_for_a_page_that_follows_an_older_frame() -> None:
    following, finished = threading.Event(), threading.Event()

    def see() -> InstanceList:
        following.set()
        assert finished.wait(10.0)
        return draw((20, 20))

    queue = FollowQueue()
    page = threading.Thread(target=queue.add(see, 0.0, SIZE, ()), daemon=True)
    page.start()
    assert following.wait(10.0)
    find = queue.add(lambda: draw((24, 20)), 1 / 30, SIZE, ())
    queue.catch_up()
    finished.set()
    page.join(10.0)
    assert [one.number for one in find().instances] == [1]


def test_two_threads_that_ask_for_two_frames_do_not_wait_for_each_other() -> None:
    labels: NDArray[np.uint8] = np.zeros(SIZE, np.uint8)
    labels[10:30, 10:30] = 1
    plain = Segmentation(labels, StageTimes(0.0, 0.0, 0.0), classes=LESION)
    following, asking = threading.Event(), threading.Event()

    def see() -> InstanceList:
        following.set()
        assert asking.wait(10.0)
        return plain.instance_list

    queue = FollowQueue()
    find = queue.add(see, 0.0, SIZE, ())

    def ask() -> InstanceList:
        asking.set()
        return find()

    shown = replace(plain, followed=ask)
    stream = threading.Thread(target=queue.settle, daemon=True)
    page = threading.Thread(target=lambda: shown.instances, daemon=True)
    stream.start()
    assert following.wait(10.0)
    page.start()
    stream.join(10.0)
    page.join(10.0)
    assert not stream.is_alive()
    assert not page.is_alive()
    assert shown.instance_list is shown.instance_list

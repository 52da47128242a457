"""Which frames a registering network takes for one clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeseg.training.frame_pairs import gather_clips
from edgeseg.training.unlabelled import FrameSet


def test_images_in_the_folder_of_a_videos_name_are_of_its_clip() -> None:
    files = (
        "a/images/0.png",
        "a/images/1.png",
        "a.mp4",
        "a.mp4",
        "b/0.png",
        "b/1.png",
        "1.2.3",
        "1.2.3",
        "1.2.4",
        "1.2.4",
    )
    pixels = np.zeros((len(files), 8, 8, 1), np.uint8)
    clips = gather_clips(FrameSet(Path(), pixels, files, np.ones((len(files), 4), np.int8)))
    assert clips.clip.tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 3, 3]

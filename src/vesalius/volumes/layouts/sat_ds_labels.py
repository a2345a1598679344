"""How SAT-DS ties labels to values: which of a line's labels are drawn, and which are unions that its loader makes.

Source: the label lists of SAT-DS (72 data sets) and what its loader does with each; numbers are places in the lists, from 1.
"""

from __future__ import annotations

from collections.abc import Sequence

_VALUES: dict[str, tuple[int, ...]] = {
    "ACDC": (3, 1, 2),
    "LUNA16": (3, 4, 5),
    **dict.fromkeys(("MM_WHS_CT", "MM_WHS_MRI"), (205, 420, 500, 550, 600, 820, 850)),
}
"""Label values of the first labels, in their order, where they are not 1, 2, 3, …"""

_NUM_DRAWN: dict[str, int] = {
    "COVID19": 3,
    "HAN_Seg": 30,
    "MRSpineSeg": 19,
    "MSD_Hippocampus": 2,
    "MSD_Prostate": 2,
    "WORD": 16,
    "TotalSegmentator_Vertebrae": 25,
    "TotalSegmentator_Ribs": 24,
    "Brain_Atlas": 95,
    "Couinaud_Liver": 8,
    **dict.fromkeys((f"BraTS2023_{part}" for part in ("GLI", "MEN", "MET", "PED", "SSA")), 3),
    "VerSe": 25,
}
"""How many of the first labels are drawn in the label map; the rest are unions of these, made when the data are loaded."""

UNCLEAR = frozenset({"SegRap2023_Task1", "DAP_Atlas"})
"""Datasets whose published lines list the labels in another order than the label map numbers them."""

_UNIONS: dict[str, dict[str, tuple[int, ...]]] = {
    **{f"BraTS2023_{part}": {"brain tumor": (1, 2, 3)} for part in ("GLI", "MEN", "MET", "PED", "SSA")},
    "COVID19": {"lung": (1, 2, 3)},
    "Brain_Atlas": {
        "lateral ventricle": (45, 46, 47, 48),
        "insula": (20, 21, *range(86, 96)),
        "parietal lobe": (32, 33, *range(60, 64), 84, 85),
        "frontal lobe": (28, 29, *range(50, 60), *range(68, 74), 76, 77, 80, 81),
        "basal ganglia": (*range(34, 40), 42, 43),
        "cingulate gyrus": (24, 25, 26, 27, 78, 79),
        "brainstem": (19, 74, 75),
        "temporal lobe": (*range(5, 17), 30, 31, 82, 83),
        "occipital lobe": (22, 23, *range(64, 68)),
    },
    "Couinaud_Liver": {"left lobe of liver": (2, 3, 4), "right lobe of liver": (5, 6, 7, 8)},
    "HAN_Seg": {"Left Eyeball": (10, 12), "Right Eyeball": (11, 13), "Eyeball": (10, 11, 12, 13)},
    "MRSpineSeg": {
        "lumbar vertebrae": tuple(range(2, 7)),
        "thoracic vertebrae": tuple(range(7, 11)),
        "intervertebral discs": tuple(range(11, 20)),
        "vertebrae": tuple(range(1, 11)),
    },
    "MSD_Hippocampus": {"Hippocampus": (1, 2)},
    "MSD_Prostate": {"prostate": (1, 2)},
    "TotalSegmentator_Ribs": {
        "left rib": tuple(range(1, 13)),
        "right rib": tuple(range(13, 25)),
        "rib": tuple(range(1, 25)),
    },
    "TotalSegmentator_Vertebrae": {
        "cervical vertebrae": tuple(range(2, 9)),
        "lumbar vertebrae": tuple(range(9, 14)),
        "thoracic vertebrae": tuple(range(14, 26)),
        "vertebrae": tuple(range(1, 26)),
    },
    "VerSe": {
        "cervical vertebrae": tuple(range(1, 8)),
        "thoracic vertebrae": (*range(8, 20), 26),
        "lumbar vertebrae": tuple(range(20, 26)),
        "vertebrae": tuple(range(1, 27)),
    },
    "WORD": {"head of femur": (15, 16)},
}
"""What a union is made of, where it is not the left and the right of its name. VerSe's 26 is a 13th thoracic vertebra."""

_HELD: dict[str, dict[int, tuple[int, ...]]] = {
    **{dataset: {1: (2,)} for dataset in ("ATLAS", "LAScarQS22_Task1", "MSD_Liver", "MSD_Pancreas")},
    "KiPA22": {2: (4,)},
    "KiTS23": {1: (2, 3)},
    "MyoPS2020": {4: (2, 3)},
}
"""Labels that hold others, each with a value of its own: an organ its tumour, the myocardium its scar."""


def drawn_labels(labels: Sequence[str], dataset: str) -> tuple[list[str], dict[str, tuple[int, ...]]]:
    """Returns the labels that are drawn, in the order of their values, and of each union the places of its parts.

    Labels that are in neither are unions that are not known.

    Args:
        labels: of a line, in its order.
        dataset: of the line.
    """
    lower = {text.lower() for text in labels}
    drawn = (
        list(labels[: _NUM_DRAWN[dataset]])
        if dataset in _NUM_DRAWN
        else [text for text in labels if not {f"left {text.lower()}", f"right {text.lower()}"} <= lower]
    )
    place_of = {text.lower(): place for place, text in enumerate(drawn, start=1)}
    unions = {
        text: (place_of[f"left {text.lower()}"], place_of[f"right {text.lower()}"])
        for text in labels
        if text not in drawn and f"left {text.lower()}" in place_of and f"right {text.lower()}" in place_of
    }
    listed = _UNIONS.get(dataset, {})
    return drawn, {**unions, **{text: parts for text, parts in listed.items() if text in labels and text not in drawn}}


def values_of(dataset: str, num_drawn: int) -> tuple[int, ...]:
    """Returns the values of the labels that are drawn, in their order."""
    return _VALUES.get(dataset, tuple(range(1, num_drawn + 1)))


def places_of(place: int, dataset: str) -> tuple[int, ...]:
    """Returns the places of the labels whose values make up the label at `place`: its own, and those it holds."""
    return (place, *_HELD.get(dataset, {}).get(place, ()))


def value_at(place: int, values: Sequence[int]) -> int:
    """Returns the value at a place of the list of labels; one beyond those that are drawn is its own."""
    return values[place - 1] if place <= len(values) else place

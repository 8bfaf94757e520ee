"""Names of columns that a run may have several of, by the ranker that made them."""


def scores_column(round: int, variant: str) -> str:
    """The column of a round's scores; of several, that of one variant."""
    return f"scores-{round}-{variant}" if variant else f"scores-{round}"


def selection_column(round: int, variant: str) -> str:
    """The column of a round's selection; of several, that of one variant."""
    return f"selection-{round}-{variant}" if variant else f"selection-{round}"

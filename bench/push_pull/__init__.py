"""Push against pull: the table of the notes, measured row by row (`make bench-push-pull`)."""

"""What AWS calls that is this app's own; what every app runs alike is in `recourse.functions`."""

"""The infrastructure: the app and its stacks, which compose the constructs of `recourse.cdk`."""

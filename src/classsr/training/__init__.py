"""The three stages of ClassSR: branches on their classes, the Class-Module, everything together."""

"""The label of a pair, and the evidence that it rests on."""

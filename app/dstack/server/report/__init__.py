"""What the forge and other people are told of runs: pure functions from facts to the texts that are sent."""

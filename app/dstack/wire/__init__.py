"""Messages, states and limits spoken between server, runner and CLI, defined once."""

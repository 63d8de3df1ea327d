"""The only SQL: one file per noun, functions named for the question they answer, each taking the session first."""

"""What turns facts into pages: words, log lines, charts, Markdown and badges; pure, it reads no store and no clock."""

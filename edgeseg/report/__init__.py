"""Reports: HTML, Markdown and plots."""

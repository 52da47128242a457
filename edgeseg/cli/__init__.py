"""The command line: one short file per command."""

from edgeseg.core.searchpath import forget_working_folder

# before anything else is imported: the commands run in folders that others fill
forget_working_folder()

"""The only code that changes a state: services call it inside their unit of work.

A change of one job settles everything above it in the same transaction: its run, its group, the runs that waited for
it, its automatic tag, and the marks of what is out of date outside.
"""

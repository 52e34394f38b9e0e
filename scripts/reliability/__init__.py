"""Faults by a script: what becomes of work when things go wrong on purpose."""

"""One honest comparison: every objective on the same teacher, student, text, tokens and optimizer.

    python -m tests.studies.compare --output FOLDER

The teacher is asked once, and its hidden states and top 50 kept; each fit and each timing is then
a process of its own, which leaves a file behind, so that an interrupted comparison goes on where it
stopped. Files, in the order in which data flows: ``setting`` (what all share), ``prepare``
(teacher, student, text), ``remembered`` (the teacher as it was), ``methods``, ``training``, ``fit``
and ``speed`` (one process each), ``outside`` (an evaluation that knows nothing of kdlight),
``results``, ``table``, ``picture``.
"""

"""What a run will cost: items, tokens, FLOPs, memory, disk and time of each stage, before it runs.

Pure functions of the configuration and of stated assumptions; torch is never imported.
"""

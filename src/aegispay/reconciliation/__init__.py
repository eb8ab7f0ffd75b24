"""Settlement files against our books: what a PSP says it moved, what we recorded, and the doubt that the file ends.

`lines`, `table`, the layouts, `books`, `matching` and `report` are pure; `scratch`, `evidence` and `run` have the effects.
"""

"""The paper's tables, figures and claims, in the numbers of a set of our own runs."""

"""Edits of images: the plan, what guides, and how a plan is carried out."""

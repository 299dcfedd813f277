"""Samplers behind one interface, and the stages that fill banks with them."""

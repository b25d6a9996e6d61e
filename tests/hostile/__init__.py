"""Peers that mean ill, in processes of their own, and what honest clients notice of them."""

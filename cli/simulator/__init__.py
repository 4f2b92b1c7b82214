"""The provider, played: calls with everything odd that it is known to send, and what the books must say of them.

An oracle is worth something while it is independent: amounts, turns and sounds are drawn first and rendered to bytes
afterwards, so what the books must say never passes through the code that reads those bytes.
"""

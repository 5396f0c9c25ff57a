"""Verification: is a rule's dW minus the gradient of its loss, and what does it depend on?

`report` asks all questions of a run; `gradient` compares with torch's autograd (`autograd`),
`differences` with finite differences, and `locality` watches which inputs an update depends on.
"""

from plasticity.verification.report import Verified, fresh, verify

__all__ = ["Verified", "fresh", "verify"]

"""A chat template's nodes, changed so that the meter sees what they make.

Operators, calls and filters are seen by the sandbox as they are. Here what else makes values, or may
take long, is passed through filters of the sandbox's own: `_made` measures a value, `_joined` makes a text
of parts, `_turns` counts a loop's turns, `_few` bounds what `*` and `**` make arguments of.
"""

from __future__ import annotations

from jinja2 import nodes
from jinja2.visitor import NodeTransformer


class Metered(NodeTransformer):
    """Passes through the meter what is not an operator, a call or a filter and makes values all the same."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        assert isinstance(node.iter, nodes.Expr)
        node.iter = _through("_turns", node.iter)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        return _through("_joined", _through("_made", parts))

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return _through("_made", node) if node.ctx == "load" else node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        return _through("_made", node) if isinstance(node.arg, nodes.Slice) else node

    def visit_List(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        return _through("_made", node)

    visit_Dict = visit_List
    visit_Compare = visit_List

    def visit_Call(self, node: nodes.Call | nodes.Filter | nodes.Test) -> nodes.Node:
        self.generic_visit(node)
        if node.dyn_args is not None:
            node.dyn_args = _through("_few", node.dyn_args)
        if node.dyn_kwargs is not None:
            node.dyn_kwargs = _through("_few", node.dyn_kwargs)
        return node

    visit_Filter = visit_Call
    visit_Test = visit_Call


def _through(name: str, node: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)

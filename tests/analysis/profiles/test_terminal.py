"""Names in the inspector's tables: short, and never two that look alike."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from numa_bench.analysis.profiles.terminal import MANY, shorten_names

ELEMENTWISE = "void at::native::vectorized_elementwise_kernel<4, at::native::"


def test_result_and_argument_types_are_left_out() -> None:
    assert shorten_names(["void gemm(int, float)"]) == ["gemm"]
    assert shorten_names(["(anonymous namespace)::f(int)"]) == ["(anonymous namespace)::f"]


def test_kernels_of_one_template_are_shown_from_where_they_differ() -> None:
    names = [
        ELEMENTWISE + "CUDAFunctor_add<float>, std::array<char*, 3ul> >(int, float)",
        ELEMENTWISE + "BinaryFunctor<float, float, at::native::MulFunctor<float> > >(int)",
        ELEMENTWISE + "BinaryFunctor<float, float, at::native::DivFunctor<float> > >(int)",
        "cutlass_gemm(Params)",
    ]

    add, multiply, divide, gemm = shorten_names(names)

    assert gemm == "cutlass_gemm"
    assert "CUDAFunctor_add" in add
    assert "MulFunctor" in multiply
    assert "DivFunctor" in divide
    assert all(text.startswith("at::native::vect…") for text in (add, multiply, divide))


def test_overloads_keep_their_arguments() -> None:
    assert shorten_names(["f(int)", "f(float)", "g(int)"]) == ["f(int)", "f(float)", "g"]


@given(
    st.lists(
        st.text("ab(", max_size=3).map(lambda end: "a" * 60 + end + "b" * 60 + end),
        unique=True,
        max_size=8,
    )
)
def test_distinct_names_look_different(names: list[str]) -> None:
    shown = shorten_names(names)

    assert len(set(shown)) == len(names)
    assert all(len(text) <= MANY for text in shown)

// What a generated convolution kernel offers to operators.cpp.  Plain C, so that kernels compile without torch.
#pragma once
#include <cstdint>

template <class S>
struct Functions {
  // Receivers begin ... end-1 of out = conv(x, sh, radial).  radial: weights [n_rows, n_weights], of which edge e takes
  // row rows[e], or row e if rows is null; or knots [n_edges, 2] (index and fraction) into table [n_knots, 3, n_weights]
  // of values, slopes and curvatures.
  void (*forward)(int64_t begin, int64_t end, int64_t n_atoms, const int64_t *row_pointers, const int64_t *senders,
                  const int64_t *rows, const S *x, const S *sh, const S *radial, const S *table, S *out);
  // Gradients; grad_x is added to (edges of several receivers share a sender), and so is grad_radial if there are rows;
  // otherwise it is set, as is grad_sh unless it is null.
  void (*backward)(int64_t begin, int64_t end, int64_t n_atoms, const int64_t *row_pointers, const int64_t *senders,
                   const int64_t *rows, const S *grad_out, const S *x, const S *sh, const S *radial, const S *table, S *grad_x, S *grad_sh,
                   S *grad_radial);
};

template <class S>
struct Precision {
  Functions<S> weights, spline;
  // Gradients of <cot_x, grad_x> + <cot_sh, grad_sh> + <cot_weight, grad_weight>; added to and set as in
  // backward.
  void (*double_backward)(int64_t begin, int64_t end, int64_t n_atoms, const int64_t *row_pointers,
                          const int64_t *senders, const int64_t *rows, const S *grad_out, const S *x, const S *sh,
                          const S *weight,
                          const S *cot_x, const S *cot_sh, const S *cot_weight, S *grad_grad_out, S *grad_x,
                          S *grad_sh, S *grad_weight);
};

struct Kernel {
  int64_t width_in;   // numbers per atom of x
  int64_t width_out;  // numbers per atom of out
  int64_t n_sh;       // harmonics per edge
  int64_t n_weights;  // weights per edge
  Precision<float> single;
  Precision<double> twofold;
};

extern "C" const Kernel *eqff_kernel();

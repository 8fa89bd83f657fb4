// Operators eqff::* with autograd: kernels generated for one model each are loaded by name and called from here.
//
//   convolve(x, sh, weight, senders, receivers, kernel) -> out        first and second derivatives
//   convolve_spline(x, sh, knot, table, senders, receivers, kernel)   first derivatives by x, sh and knot
//
//   species_linear(x, weight, transposed, species) -> y               every derivative by x
//
// Every derivative is an operator too and is called through the dispatcher, so that tracing sees it.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <dlfcn.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <cstring>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "kernel.h"

namespace {

using at::Tensor;
using c10::string_view;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Gradients = std::tuple<Tensor, Tensor, Tensor>;
using SecondGradients = std::tuple<Tensor, Tensor, Tensor, Tensor>;

std::unordered_map<std::string, const Kernel *> kernels;
std::mutex lock;

void load_kernel(string_view name, string_view path) {
  std::lock_guard<std::mutex> guard(lock);
  if (kernels.count(std::string(name))) return;
  void *library = dlopen(std::string(path).c_str(), RTLD_NOW | RTLD_LOCAL);
  TORCH_CHECK(library, "cannot load ", path, ": ", dlerror());
  auto entry = reinterpret_cast<const Kernel *(*)()>(dlsym(library, "eqff_kernel"));
  TORCH_CHECK(entry, path, " is no eqff kernel");
  kernels[std::string(name)] = entry();
}

const Kernel &find(string_view name) {
  std::lock_guard<std::mutex> guard(lock);
  auto found = kernels.find(std::string(name));
  TORCH_CHECK(found != kernels.end(), "kernel ", name, " is not loaded");
  return *found->second;
}

template <class S>
const Precision<S> &precision(const Kernel &kernel);
template <>
const Precision<float> &precision<float>(const Kernel &kernel) { return kernel.single; }
template <>
const Precision<double> &precision<double>(const Kernel &kernel) { return kernel.twofold; }

template <class F>
void with_type(const Tensor &x, F f) {
  if (x.scalar_type() == at::kFloat) return f(float{});
  TORCH_CHECK(x.scalar_type() == at::kDouble, "eqff::convolve takes float32 or float64, not ", x.scalar_type());
  f(double{});
}

// Checked inputs of one call: contiguous tensors of one dtype, and where the edges of each receiver start.
struct Call {
  const Kernel &kernel;
  bool spline;
  Tensor x, sh, radial, senders, table;
  int64_t n_atoms, n_edges;
  std::vector<int64_t> row_pointers;

  Call(const Tensor &x_, const Tensor &sh_, const Tensor &radial_, const c10::optional<Tensor> &table_,
       const Tensor &senders_, const Tensor &receivers_, string_view name)
      : kernel(find(name)), spline(table_.has_value()), x(x_.contiguous()), sh(sh_.contiguous()),
        radial(radial_.contiguous()), senders(senders_.contiguous()), n_atoms(x.size(0)), n_edges(senders.size(0)) {
    if (spline) table = table_->contiguous();
    const int64_t n_radial = spline ? 2 : kernel.n_weights;
    TORCH_CHECK(x.dim() == 2 && x.size(1) == kernel.width_in, "x: expected [n_atoms, ", kernel.width_in, "], got ",
                x.sizes());
    TORCH_CHECK(sh.dim() == 2 && sh.size(0) == n_edges && sh.size(1) == kernel.n_sh, "sh: expected [", n_edges, ", ",
                kernel.n_sh, "], got ", sh.sizes());
    TORCH_CHECK(radial.dim() == 2 && radial.size(0) == n_edges && radial.size(1) == n_radial,
                "radial: expected [", n_edges, ", ", n_radial, "], got ", radial.sizes());
    TORCH_CHECK(sh.scalar_type() == x.scalar_type() && radial.scalar_type() == x.scalar_type() &&
                    (!spline || table.scalar_type() == x.scalar_type()),
                "x, sh, radial functions: expected one dtype");
    TORCH_CHECK(senders.dim() == 1 && senders.scalar_type() == at::kLong && receivers_.scalar_type() == at::kLong &&
                    receivers_.dim() == 1 && receivers_.size(0) == n_edges,
                "senders, receivers: expected int64 [", n_edges, "]");
    count(receivers_.contiguous());
    if (spline) check_knots();
  }

  Tensor checked(const Tensor &grad_out) const {
    TORCH_CHECK(grad_out.numel() == n_atoms * kernel.width_out && grad_out.scalar_type() == x.scalar_type(),
                "grad_out: expected ", n_atoms * kernel.width_out, " numbers, got ", grad_out.sizes());
    return grad_out.contiguous();
  }

  void count(const Tensor &receivers) {
    row_pointers.assign(n_atoms + 1, 0);
    const int64_t *to = receivers.data_ptr<int64_t>(), *from = senders.data_ptr<int64_t>();
    int64_t previous = 0;
    bool sound = true;
    for (int64_t e = 0; e < n_edges; e++) {
      sound &= to[e] >= previous && to[e] < n_atoms && from[e] >= 0 && from[e] < n_atoms;
      if (!sound) break;
      previous = to[e];
      row_pointers[previous + 1]++;
    }
    TORCH_CHECK(sound, "senders, receivers: expected indices of ", n_atoms, " atoms, sorted by receiver");
    for (int64_t i = 0; i < n_atoms; i++) row_pointers[i + 1] += row_pointers[i];
  }

  void check_knots() {
    TORCH_CHECK(table.dim() == 3 && table.size(1) == 3 && table.size(2) == kernel.n_weights, "table: expected ",
                "[n_knots, 3, ", kernel.n_weights, "], got ", table.sizes());
    with_type(radial, [&](auto type) {
      using S = decltype(type);
      const S *knot = radial.data_ptr<S>(), last = S(table.size(0) - 2);  // an interval needs two knots
      bool sound = true;
      for (int64_t e = 0; e < n_edges; e++) sound &= knot[2 * e] <= last;  // false for NaN
      TORCH_CHECK(sound, "knot: expected indices up to ", table.size(0) - 2);
    });
  }

  // Ranges of receivers with about equal numbers of edges, one per thread if there is enough to do.
  std::vector<int64_t> tasks() const {
    constexpr int64_t worth_a_thread = 200'000;  // numbers written or read; some 50 microseconds
    const int64_t work = n_edges * (kernel.n_weights + kernel.width_in);
    const int64_t n = at::in_parallel_region() ? 1 : std::min<int64_t>(at::get_num_threads(), 1 + work / worth_a_thread);
    std::vector<int64_t> bounds{0};
    for (int64_t k = 1; k < n; k++) {
      auto bound = std::lower_bound(row_pointers.begin(), row_pointers.end() - 1, n_edges * k / n);
      bounds.push_back(std::max<int64_t>(bounds.back(), bound - row_pointers.begin()));
    }
    bounds.push_back(n_atoms);
    return bounds;
  }

  template <class F>
  void parallel(F f) const {
    const std::vector<int64_t> bounds = tasks();
    if (bounds.size() == 2) return f(0, 0, n_atoms);
    at::parallel_for(0, bounds.size() - 1, 1, [&](int64_t first, int64_t last) {
      for (int64_t k = first; k < last; k++) f(k, bounds[k], bounds[k + 1]);
    });
  }

  // Edges of different threads may share a sender: each thread sums into a buffer of its own.
  template <class S, class F>
  Tensor summed_by_sender(F f) const {
    const int64_t n = tasks().size() - 1, size = n_atoms * kernel.width_in;
    Tensor sums = at::zeros({n, n_atoms, kernel.width_in}, x.options());
    S *first = sums.data_ptr<S>();
    parallel([&](int64_t k, int64_t begin, int64_t end) { f(first + k * size, begin, end); });
    return n == 1 ? sums[0] : sums.sum(0);
  }
};

Tensor run_forward(const Call &call) {
  Tensor out = at::empty({call.n_atoms * call.kernel.width_out}, call.x.options());
  with_type(call.x, [&](auto type) {
    using S = decltype(type);
    const auto &of = precision<S>(call.kernel);
    const auto function = call.spline ? of.spline.forward : of.weights.forward;
    const S *x = call.x.data_ptr<S>(), *sh = call.sh.data_ptr<S>(), *radial = call.radial.data_ptr<S>();
    const S *table = call.spline ? call.table.data_ptr<S>() : nullptr;
    S *result = out.data_ptr<S>();
    call.parallel([&](int64_t, int64_t begin, int64_t end) {
      function(begin, end, call.n_atoms, call.row_pointers.data(), call.senders.data_ptr<int64_t>(), x, sh, radial,
               table, result);
    });
  });
  return out;
}

Gradients run_backward(const Call &call, const Tensor &grad_out_) {
  const Tensor grad_out = call.checked(grad_out_);
  Tensor grad_x, grad_sh = at::empty_like(call.sh), grad_radial = at::empty_like(call.radial);
  with_type(call.x, [&](auto type) {
    using S = decltype(type);
    const auto &of = precision<S>(call.kernel);
    const auto function = call.spline ? of.spline.backward : of.weights.backward;
    const S *table = call.spline ? call.table.data_ptr<S>() : nullptr;
    grad_x = call.summed_by_sender<S>([&](S *sums, int64_t begin, int64_t end) {
      function(begin, end, call.n_atoms, call.row_pointers.data(), call.senders.data_ptr<int64_t>(),
               grad_out.data_ptr<S>(), call.x.data_ptr<S>(), call.sh.data_ptr<S>(), call.radial.data_ptr<S>(), table,
               sums, grad_sh.data_ptr<S>(), grad_radial.data_ptr<S>());
    });
  });
  return {grad_x, grad_sh, grad_radial};
}

Tensor convolve(const Tensor &x, const Tensor &sh, const Tensor &weight, const Tensor &senders, const Tensor &receivers,
                string_view kernel) {
  return run_forward(Call(x, sh, weight, c10::nullopt, senders, receivers, kernel));
}

Gradients convolve_backward(const Tensor &grad_out, const Tensor &x, const Tensor &sh, const Tensor &weight,
                            const Tensor &senders, const Tensor &receivers, string_view kernel) {
  return run_backward(Call(x, sh, weight, c10::nullopt, senders, receivers, kernel), grad_out);
}

SecondGradients convolve_double_backward(const Tensor &grad_out_, const Tensor &x, const Tensor &sh,
                                         const Tensor &weight, const Tensor &cot_x_, const Tensor &cot_sh_,
                                         const Tensor &cot_weight_, const Tensor &senders, const Tensor &receivers,
                                         string_view kernel) {
  const Call call(x, sh, weight, c10::nullopt, senders, receivers, kernel);
  TORCH_CHECK(cot_x_.sizes() == call.x.sizes() && cot_sh_.sizes() == call.sh.sizes() &&
                  cot_weight_.sizes() == call.radial.sizes(), "cot_x, cot_sh, cot_weight: expected the shapes of x, sh, weight");
  const Tensor grad_out = call.checked(grad_out_), cot_x = cot_x_.contiguous(), cot_sh = cot_sh_.contiguous(),
               cot_weight = cot_weight_.contiguous();
  Tensor grad_grad_out = at::zeros_like(grad_out), grad_x, grad_sh = at::empty_like(call.sh),
         grad_weight = at::empty_like(call.radial);
  with_type(call.x, [&](auto type) {
    using S = decltype(type);
    const auto function = precision<S>(call.kernel).double_backward;
    grad_x = call.summed_by_sender<S>([&](S *sums, int64_t begin, int64_t end) {
      function(begin, end, call.n_atoms, call.row_pointers.data(), call.senders.data_ptr<int64_t>(),
               grad_out.data_ptr<S>(), call.x.data_ptr<S>(), call.sh.data_ptr<S>(), call.radial.data_ptr<S>(),
               cot_x.data_ptr<S>(), cot_sh.data_ptr<S>(), cot_weight.data_ptr<S>(), grad_grad_out.data_ptr<S>(),
               sums, grad_sh.data_ptr<S>(), grad_weight.data_ptr<S>());
    });
  });
  return {grad_grad_out, grad_x, grad_sh, grad_weight};
}

Tensor convolve_spline(const Tensor &x, const Tensor &sh, const Tensor &knot, const Tensor &table,
                       const Tensor &senders, const Tensor &receivers, string_view kernel) {
  return run_forward(Call(x, sh, knot, table, senders, receivers, kernel));
}

Gradients convolve_spline_backward(const Tensor &grad_out, const Tensor &x, const Tensor &sh, const Tensor &knot,
                                   const Tensor &table, const Tensor &senders, const Tensor &receivers,
                                   string_view kernel) {
  return run_backward(Call(x, sh, knot, table, senders, receivers, kernel), grad_out);
}

#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64;
#elif defined(__AVX__)
constexpr int VECTOR_BYTES = 32;
#else
constexpr int VECTOR_BYTES = 16;
#endif

// Columns n ... n + N W of y[r] = x[r] weight, for M rows of n_in numbers which share weight [n_in, n_out].
template <int M, int N, class S>
void multiply_columns(const S *const *x, const S *weight, int64_t n_in, int64_t n_out, int64_t n, S *const *y) {
  constexpr int W = VECTOR_BYTES / sizeof(S);
  typedef S V __attribute__((vector_size(VECTOR_BYTES)));
  V sums[M][N] = {};
  for (int64_t k = 0; k < n_in; k++)
    for (int v = 0; v < N; v++) {
      V w;
      std::memcpy(&w, weight + k * n_out + n + v * W, sizeof(V));
      for (int m = 0; m < M; m++) sums[m][v] += x[m][k] * w;
    }
  for (int m = 0; m < M; m++) std::memcpy(y[m] + n, sums[m], sizeof(sums[m]));
}

template <int M, class S>
void multiply_rows(const S *const *x, const S *weight, int64_t n_in, int64_t n_out, S *const *y) {
  constexpr int W = VECTOR_BYTES / sizeof(S);
  int64_t n = 0;
  for (; n + 4 * W <= n_out; n += 4 * W) multiply_columns<M, 4>(x, weight, n_in, n_out, n, y);
  for (; n + W <= n_out; n += W) multiply_columns<M, 1>(x, weight, n_in, n_out, n, y);
  if (n == n_out) return;
  S sums[M][W] = {};
  for (int64_t k = 0; k < n_in; k++)
    for (int m = 0; m < M; m++)
      for (int64_t c = n; c < n_out; c++) sums[m][c - n] += x[m][k] * weight[k * n_out + c];
  for (int m = 0; m < M; m++) std::memcpy(y[m] + n, sums[m], (n_out - n) * sizeof(S));
}

Tensor species_linear(const Tensor &x_, const Tensor &weight_, const Tensor &transposed, const Tensor &species_) {
  const Tensor x = x_.contiguous(), weight = weight_.contiguous(), species = species_.contiguous();
  TORCH_CHECK(x.dim() == 3 && weight.dim() == 3 && x.size(2) == weight.size(1), "x, weight: expected [n_atoms, dim, ",
              "n_in] and [n_species, n_in, n_out], got ", x.sizes(), " and ", weight.sizes());
  TORCH_CHECK(species.scalar_type() == at::kLong && species.dim() == 1 && species.size(0) == x.size(0),
              "species: expected int64 [n_atoms]");
  TORCH_CHECK(weight.scalar_type() == x.scalar_type(), "x, weight: expected one dtype");
  const int64_t n_atoms = x.size(0), dim = x.size(1), n_in = x.size(2), n_out = weight.size(2);
  std::vector<std::vector<int64_t>> atoms(weight.size(0));
  for (int64_t i = 0; i < n_atoms; i++) {
    const int64_t s = species.data_ptr<int64_t>()[i];
    TORCH_CHECK(s >= 0 && s < weight.size(0), "species: expected indices below ", weight.size(0));
    atoms[s].push_back(i);
  }
  Tensor y = at::empty({n_atoms, dim, n_out}, x.options());
  with_type(x, [&](auto type) {
    using S = decltype(type);
    constexpr int M = 5;  // with 4 vectors of sums each, what the registers hold
    for (int64_t s = 0; s < int64_t(atoms.size()); s++) {
      const int64_t n_rows = atoms[s].size() * dim, grain = std::max<int64_t>(M, (1 << 20) / std::max<int64_t>(1, n_in * n_out));
      const S *of_species = weight.data_ptr<S>() + s * n_in * n_out;
      at::parallel_for(0, (n_rows + M - 1) / M, grain / M + 1, [&](int64_t first, int64_t last) {
        for (int64_t r = first * M; r < std::min(n_rows, last * M); r += M) {
          const S *from[M];
          S *to[M];
          const int m = std::min<int64_t>(M, n_rows - r);
          for (int k = 0; k < m; k++) {
            const int64_t row = atoms[s][(r + k) / dim] * dim + (r + k) % dim;
            from[k] = x.data_ptr<S>() + row * n_in, to[k] = y.data_ptr<S>() + row * n_out;
          }
          if (m == M) multiply_rows<M>(from, of_species, n_in, n_out, to);
          else for (int k = 0; k < m; k++) multiply_rows<1>(from + k, of_species, n_in, n_out, to + k);
        }
      });
    }
  });
  return y;
}

// Shapes for tracing.
Tensor species_linear_shape(const Tensor &x, const Tensor &weight, const Tensor &, const Tensor &) {
  return at::empty_symint({x.sym_size(0), x.sym_size(1), weight.sym_size(2)}, x.options());
}
Tensor contiguous_like(const Tensor &x) { return at::empty_like(x, c10::MemoryFormat::Contiguous); }
Tensor convolve_shape(const Tensor &x, const Tensor &sh, const Tensor &, const Tensor &, const Tensor &,
                      string_view kernel) {
  return at::empty_symint({x.sym_size(0) * find(kernel).width_out}, x.options());
}
Gradients convolve_backward_shape(const Tensor &, const Tensor &x, const Tensor &sh, const Tensor &weight,
                                  const Tensor &, const Tensor &, string_view) {
  return {contiguous_like(x), contiguous_like(sh), contiguous_like(weight)};
}
SecondGradients convolve_double_backward_shape(const Tensor &grad_out, const Tensor &x, const Tensor &sh,
                                               const Tensor &weight, const Tensor &, const Tensor &, const Tensor &,
                                               const Tensor &, const Tensor &, string_view) {
  return {contiguous_like(grad_out), contiguous_like(x), contiguous_like(sh), contiguous_like(weight)};
}
Tensor convolve_spline_shape(const Tensor &x, const Tensor &, const Tensor &, const Tensor &, const Tensor &,
                             const Tensor &, string_view kernel) {
  return at::empty_symint({x.sym_size(0) * find(kernel).width_out}, x.options());
}
Gradients convolve_spline_backward_shape(const Tensor &, const Tensor &x, const Tensor &sh, const Tensor &knot,
                                         const Tensor &, const Tensor &, const Tensor &, string_view) {
  return {contiguous_like(x), contiguous_like(sh), contiguous_like(knot)};
}

template <class F>
auto op(const char *name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<F>();
}

Tensor or_zero(const Tensor &gradient, const Tensor &like) {
  return gradient.defined() ? gradient : at::zeros_like(like);
}

struct BackwardFunction : torch::autograd::Function<BackwardFunction> {
  static variable_list forward(AutogradContext *context, Tensor grad_out, Tensor x, Tensor sh, Tensor weight,
                               Tensor senders, Tensor receivers, std::string kernel) {
    at::AutoDispatchBelowADInplaceOrView guard;
    context->save_for_backward({grad_out, x, sh, weight, senders, receivers});
    context->saved_data["kernel"] = kernel;
    static const auto call = op<decltype(convolve_backward)>("eqff::convolve_backward");
    auto [grad_x, grad_sh, grad_weight] = call.call(grad_out, x, sh, weight, senders, receivers, kernel);
    return {grad_x, grad_sh, grad_weight};
  }
  static variable_list backward(AutogradContext *context, variable_list cotangents) {
    const auto saved = context->get_saved_variables();
    const std::string kernel = context->saved_data["kernel"].toStringRef();
    static const auto call = op<decltype(convolve_double_backward)>("eqff::convolve_double_backward");
    auto [grad_grad_out, grad_x, grad_sh, grad_weight] =
        call.call(saved[0], saved[1], saved[2], saved[3], or_zero(cotangents[0], saved[1]),
                  or_zero(cotangents[1], saved[2]), or_zero(cotangents[2], saved[3]), saved[4], saved[5], kernel);
    return {grad_grad_out, grad_x, grad_sh, grad_weight, Tensor(), Tensor(), Tensor()};
  }
};

struct ForwardFunction : torch::autograd::Function<ForwardFunction> {
  static Tensor forward(AutogradContext *context, Tensor x, Tensor sh, Tensor weight, Tensor senders, Tensor receivers,
                        std::string kernel) {
    at::AutoDispatchBelowADInplaceOrView guard;
    context->save_for_backward({x, sh, weight, senders, receivers});
    context->saved_data["kernel"] = kernel;
    static const auto call = op<decltype(convolve)>("eqff::convolve");
    return call.call(x, sh, weight, senders, receivers, kernel);
  }
  static variable_list backward(AutogradContext *context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    static const auto call = op<decltype(convolve_backward)>("eqff::convolve_backward");
    auto [grad_x, grad_sh, grad_weight] = call.call(gradients[0], saved[0], saved[1], saved[2], saved[3], saved[4],
                                                    context->saved_data["kernel"].toStringRef());
    return {grad_x, grad_sh, grad_weight, Tensor(), Tensor(), Tensor()};
  }
};

struct SplineFunction : torch::autograd::Function<SplineFunction> {
  static Tensor forward(AutogradContext *context, Tensor x, Tensor sh, Tensor knot, Tensor table, Tensor senders,
                        Tensor receivers, std::string kernel) {
    at::AutoDispatchBelowADInplaceOrView guard;
    context->save_for_backward({x, sh, knot, table, senders, receivers});
    context->saved_data["kernel"] = kernel;
    static const auto call = op<decltype(convolve_spline)>("eqff::convolve_spline");
    return call.call(x, sh, knot, table, senders, receivers, kernel);
  }
  static variable_list backward(AutogradContext *context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    static const auto call = op<decltype(convolve_spline_backward)>("eqff::convolve_spline_backward");
    auto [grad_x, grad_sh, grad_knot] = call.call(gradients[0], saved[0], saved[1], saved[2], saved[3], saved[4],
                                                  saved[5], context->saved_data["kernel"].toStringRef());
    return {grad_x, grad_sh, grad_knot, Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

struct SpeciesLinearFunction : torch::autograd::Function<SpeciesLinearFunction> {
  static Tensor forward(AutogradContext *context, Tensor x, Tensor weight, Tensor transposed, Tensor species) {
    TORCH_CHECK(!weight.requires_grad(), "eqff::species_linear cannot train its weights");
    at::AutoDispatchBelowADInplaceOrView guard;
    context->save_for_backward({weight, transposed, species});
    static const auto call = op<decltype(species_linear)>("eqff::species_linear");
    return call.call(x, weight, transposed, species);
  }
  static variable_list backward(AutogradContext *context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    static const auto call = op<decltype(species_linear)>("eqff::species_linear");
    return {call.call(gradients[0], saved[1], saved[0], saved[2]), Tensor(), Tensor(), Tensor()};
  }
};

Tensor species_linear_autograd(const Tensor &x, const Tensor &weight, const Tensor &transposed, const Tensor &species) {
  return SpeciesLinearFunction::apply(x, weight, transposed, species);
}
Tensor convolve_autograd(const Tensor &x, const Tensor &sh, const Tensor &weight, const Tensor &senders,
                         const Tensor &receivers, string_view kernel) {
  return ForwardFunction::apply(x, sh, weight, senders, receivers, std::string(kernel));
}
Gradients convolve_backward_autograd(const Tensor &grad_out, const Tensor &x, const Tensor &sh, const Tensor &weight,
                                     const Tensor &senders, const Tensor &receivers, string_view kernel) {
  auto gradients = BackwardFunction::apply(grad_out, x, sh, weight, senders, receivers, std::string(kernel));
  return {gradients[0], gradients[1], gradients[2]};
}
Tensor convolve_spline_autograd(const Tensor &x, const Tensor &sh, const Tensor &knot, const Tensor &table,
                                const Tensor &senders, const Tensor &receivers, string_view kernel) {
  return SplineFunction::apply(x, sh, knot, table, senders, receivers, std::string(kernel));
}

}  // namespace

TORCH_LIBRARY(eqff, library) {
  library.def("load_kernel(str name, str path) -> ()", load_kernel);
  const auto define = [&](const std::string &schema) { library.def(schema.c_str()); };
  const std::string inputs = "Tensor x, Tensor sh, Tensor weight, ", edges = "Tensor senders, Tensor receivers, str kernel";
  const std::string knots = "Tensor x, Tensor sh, Tensor knot, Tensor table, ";
  define("convolve(" + inputs + edges + ") -> Tensor");
  define("convolve_backward(Tensor grad_out, " + inputs + edges + ") -> (Tensor, Tensor, Tensor)");
  define("convolve_double_backward(Tensor grad_out, " + inputs + "Tensor cot_x, Tensor cot_sh, Tensor cot_weight, " +
         edges + ") -> (Tensor, Tensor, Tensor, Tensor)");
  define("convolve_spline(" + knots + edges + ") -> Tensor");
  define("species_linear(Tensor x, Tensor weight, Tensor transposed, Tensor species) -> Tensor");
  define("convolve_spline_backward(Tensor grad_out, " + knots + edges + ") -> (Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(eqff, CPU, library) {
  library.impl("convolve", convolve);
  library.impl("convolve_backward", convolve_backward);
  library.impl("convolve_double_backward", convolve_double_backward);
  library.impl("convolve_spline", convolve_spline);
  library.impl("convolve_spline_backward", convolve_spline_backward);
  library.impl("species_linear", species_linear);
}

TORCH_LIBRARY_IMPL(eqff, Meta, library) {
  library.impl("convolve", convolve_shape);
  library.impl("convolve_backward", convolve_backward_shape);
  library.impl("convolve_double_backward", convolve_double_backward_shape);
  library.impl("convolve_spline", convolve_spline_shape);
  library.impl("convolve_spline_backward", convolve_spline_backward_shape);
  library.impl("species_linear", species_linear_shape);
}

TORCH_LIBRARY_IMPL(eqff, Autograd, library) {
  library.impl("convolve", convolve_autograd);
  library.impl("convolve_backward", convolve_backward_autograd);
  library.impl("convolve_spline", convolve_spline_autograd);
  library.impl("species_linear", species_linear_autograd);
  // derivatives beyond those: an error, not a wrong number
  library.impl("convolve_double_backward", torch::autograd::autogradNotImplementedFallback());
  library.impl("convolve_spline_backward", torch::autograd::autogradNotImplementedFallback());
}

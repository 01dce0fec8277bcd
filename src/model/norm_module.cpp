#include "norm_module.h"

#include <ATen/ATen.h>

#include "norma/base/text.h"
#include "norma/kernels/ops.h"

namespace norma {

at::Tensor shaped_placeholder(at::IntArrayRef shape) {
  return at::zeros({1}).expand(shape).detach();
}

NormImpl::NormImpl(const NormSite& site, std::int64_t width) : kind_(site.kind), eps_(site.eps) {
  weight_ = register_parameter("weight", shaped_placeholder({width}));
}

at::Tensor NormImpl::forward(const at::Tensor& x) const {
  return kind_ == NormKind::rms ? ops::rms_norm(x, weight_, eps_) : ops::layer_norm(x, weight_, eps_);
}

Norm register_norm(torch::nn::Module& parent, const std::string& name, const NormSite& site, std::int64_t width) {
  return site.present() ? parent.register_module(name, std::make_shared<NormImpl>(site, width)) : nullptr;
}

WiringSites<Norm> register_norms(torch::nn::Module& parent, const ResidualWiring& wiring, std::int64_t d_model) {
  WiringSites<Norm> norms;
  const auto add = [&](const SiteInfo& info, const NormSite& site, Norm& norm) {
    norm = register_norm(parent, cat("norm_", info.name), site, d_model);
  };
  visit_wiring_sites(add, wiring, norms);
  return norms;
}

InnerSites<Norm> register_norms(torch::nn::Module& parent, const InnerNorms& inner, const ModelConfig& model) {
  InnerSites<Norm> norms;
  const auto add = [&](const SiteInfo& info, const auto& site, Norm& norm) {
    const SiteShape shape = site_shape(info.input, inner, model);
    norm = register_norm(parent, cat("norm_", info.name), site, shape.gain_width(site));
  };
  visit_inner_sites(add, inner, norms);
  return norms;
}

}  // namespace norma

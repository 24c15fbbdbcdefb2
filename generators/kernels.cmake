# THE list of kernels. One entry each:
#   aft_kernel(NAME GENERATOR family:generator ARGUMENTS <C++ parameters> [PARAMS generator parameters]
#              [VARIANTS <name>[:<C++ predicate over the arguments>] ...])      the first variant that fits is called
# Halide's argument order is inputs, then outputs; `Tensor &` is an output, a scalar is int32_t or float.

# --- gemm: C = op(A) op(B) with epilogues (generators/gemm.h)
set(few_rows "single:c.size(0) == 1" "skinny:c.size(0) <= 8" large)  # nt: rows of B are read where they lie
foreach (layout nn tn)
    aft_kernel(gemm_${layout}_f32 GENERATOR gemm:gemm PARAMS layout=${layout}
               ARGUMENTS "const Tensor &a, const Tensor &b, int32_t accumulate, Tensor &c"
               VARIANTS "skinny:c.size(0) <= 8" large)
endforeach ()
aft_kernel(gemm_nt_f32 GENERATOR gemm:gemm PARAMS layout=nt
           ARGUMENTS "const Tensor &a, const Tensor &b, int32_t accumulate, Tensor &c" VARIANTS ${few_rows})
aft_kernel(gemm_nt_bias_f32 GENERATOR gemm:gemm PARAMS layout=nt epilogue=bias
           ARGUMENTS "const Tensor &a, const Tensor &b, const Tensor &bias, Tensor &c" VARIANTS ${few_rows})
aft_kernel(gemm_nt_bias_residual_f32 GENERATOR gemm:gemm PARAMS layout=nt epilogue=bias_residual
           ARGUMENTS "const Tensor &a, const Tensor &b, const Tensor &bias, const Tensor &residual, Tensor &c"
           VARIANTS ${few_rows})
aft_kernel(gemm_nt_bias_gelu_f32 GENERATOR gemm:gemm PARAMS layout=nt epilogue=bias_gelu
           ARGUMENTS "const Tensor &a, const Tensor &b, const Tensor &bias, Tensor &c, Tensor &slope"
           VARIANTS ${few_rows})
aft_kernel(gemm_nn_gelu_backward_f32 GENERATOR gemm:gemm PARAMS layout=nn epilogue=gelu_backward
           ARGUMENTS "const Tensor &a, const Tensor &b, const Tensor &slope, Tensor &c" VARIANTS large)

# --- gemm_panels: products with weights packed once, for decoding (generators/gemm_panels.h)
set(any_rows "single:c.size(0) == 1" "few:c.size(0) <= 4" many)
aft_kernel(gemm_panels_pack_f32 GENERATOR gemm_panels:gemm_panels_pack ARGUMENTS "const Tensor &weight, Tensor &panels")
aft_kernel(gemm_panels_bias_f32 GENERATOR gemm_panels:gemm_panels PARAMS epilogue=bias
           ARGUMENTS "const Tensor &a, const Tensor &b, const Tensor &bias, Tensor &c" VARIANTS ${any_rows})
aft_kernel(gemm_panels_bias_residual_f32 GENERATOR gemm_panels:gemm_panels PARAMS epilogue=bias_residual
           ARGUMENTS "const Tensor &a, const Tensor &b, const Tensor &bias, const Tensor &residual, Tensor &c" VARIANTS ${any_rows})
aft_kernel(gemm_panels_bias_gelu_f32 GENERATOR gemm_panels:gemm_panels PARAMS epilogue=bias_gelu
           ARGUMENTS "const Tensor &a, const Tensor &b, const Tensor &bias, Tensor &c" VARIANTS ${any_rows})

# --- aft_simple: scans over chunks of time, state updated in place (generators/aft_simple.h)
# State tensors are [B, T, C] with stride 0 along T.
set(activations "const Tensor &query, const Tensor &key, const Tensor &value")
aft_kernel(aft_simple_causal_forward_f32 GENERATOR aft_simple:aft_simple PARAMS op=causal_forward
           ARGUMENTS "${activations}, Tensor &y, Tensor &num, Tensor &den, Tensor &local_num, Tensor &local_den, Tensor &reference")
aft_kernel(aft_simple_statistics_f32 GENERATOR aft_simple:aft_simple PARAMS op=statistics
           ARGUMENTS "const Tensor &key, const Tensor &value, Tensor &num, Tensor &den, Tensor &local_num, Tensor &local_den, Tensor &reference")
aft_kernel(aft_simple_gate_f32 GENERATOR aft_simple:aft_simple PARAMS op=gate
           ARGUMENTS "const Tensor &query, const Tensor &num, const Tensor &den, Tensor &y")
aft_kernel(aft_simple_causal_replay_f32 GENERATOR aft_simple:aft_simple PARAMS op=causal_replay
           ARGUMENTS "const Tensor &key, const Tensor &value, Tensor &nums, Tensor &dens, Tensor &halves, Tensor &num, Tensor &den, Tensor &reference")
aft_kernel(aft_simple_causal_backward_f32 GENERATOR aft_simple:aft_simple PARAMS op=causal_backward
           ARGUMENTS "const Tensor &query, const Tensor &value, const Tensor &dy, const Tensor &nums, const Tensor &dens, const Tensor &halves, Tensor &dq, Tensor &dk, Tensor &dv, Tensor &s, Tensor &p, Tensor &local_s, Tensor &local_p")
aft_kernel(aft_simple_gate_backward_f32 GENERATOR aft_simple:aft_simple PARAMS op=gate_backward
           ARGUMENTS "const Tensor &query, const Tensor &dy, const Tensor &num, const Tensor &den, Tensor &dq, Tensor &s, Tensor &local_s")
aft_kernel(aft_simple_key_backward_f32 GENERATOR aft_simple:aft_simple PARAMS op=key_backward
           ARGUMENTS "const Tensor &key, const Tensor &value, const Tensor &num, const Tensor &den, const Tensor &reference, const Tensor &s, Tensor &dk, Tensor &dv")
aft_kernel(aft_simple_causal_forward_bounded_f32 GENERATOR aft_simple:aft_simple PARAMS op=causal_forward_bounded
           ARGUMENTS "${activations}, Tensor &y, Tensor &num, Tensor &den, Tensor &local_num, Tensor &local_den, Tensor &guard, Tensor &reference")
aft_kernel(aft_simple_statistics_bounded_f32 GENERATOR aft_simple:aft_simple PARAMS op=statistics_bounded
           ARGUMENTS "const Tensor &key, const Tensor &value, Tensor &num, Tensor &den, Tensor &local_num, Tensor &local_den, Tensor &guard, Tensor &reference")
aft_kernel(aft_simple_gate_bounded_f32 GENERATOR aft_simple:aft_simple PARAMS op=gate_bounded
           ARGUMENTS "const Tensor &query, const Tensor &num, const Tensor &den, Tensor &y, Tensor &guard")
aft_kernel(aft_simple_causal_queries_f32 GENERATOR aft_simple:aft_simple PARAMS op=causal_queries
           ARGUMENTS "${activations}, const Tensor &dy, const Tensor &num, const Tensor &den, const Tensor &reference, Tensor &dq, Tensor &gs, Tensor &grs, Tensor &weights, Tensor &local_num, Tensor &local_den, Tensor &guard")
aft_kernel(aft_simple_causal_keys_f32 GENERATOR aft_simple:aft_simple PARAMS op=causal_keys
           ARGUMENTS "const Tensor &value, const Tensor &grs, const Tensor &reference, const Tensor &reference_after, Tensor &dk, Tensor &dv, Tensor &s, Tensor &p, Tensor &local_s, Tensor &local_p")
aft_kernel(aft_simple_causal_prefixes_f32 GENERATOR aft_simple:aft_simple PARAMS op=causal_prefixes
           ARGUMENTS "const Tensor &key, const Tensor &value, const Tensor &own_reference, Tensor &nums, Tensor &dens, Tensor &num, Tensor &den, Tensor &guard")
aft_kernel(aft_simple_causal_link_f32 GENERATOR aft_simple:aft_simple PARAMS op=causal_link
           ARGUMENTS "const Tensor &num, const Tensor &den, const Tensor &reference, const Tensor &own_num, const Tensor &own_den, const Tensor &own_reference, Tensor &base_num, Tensor &base_den, Tensor &add, Tensor &num_behind, Tensor &den_behind, Tensor &reference_behind")
aft_kernel(aft_simple_causal_gate_f32 GENERATOR aft_simple:aft_simple PARAMS op=causal_gate
           ARGUMENTS "const Tensor &query, const Tensor &nums, const Tensor &dens, const Tensor &base_num, const Tensor &base_den, const Tensor &add, Tensor &y")
aft_kernel(aft_simple_causal_link_back_f32 GENERATOR aft_simple:aft_simple PARAMS op=causal_link_back
           ARGUMENTS "const Tensor &reference, const Tensor &reference_after, const Tensor &own_s, const Tensor &own_p, const Tensor &s_behind, const Tensor &p_behind, Tensor &s, Tensor &p")

# --- normalization: layer norm over the last axis (generators/normalization.h)
aft_kernel(layer_norm_forward_f32 GENERATOR normalization:layer_norm_forward
           ARGUMENTS "const Tensor &x, const Tensor &weight, const Tensor &bias, float epsilon, Tensor &y, Tensor &mean, Tensor &rstd")
aft_kernel(residual_layer_norm_forward_f32 GENERATOR normalization:layer_norm_forward PARAMS residual=true
           ARGUMENTS "const Tensor &x, const Tensor &branch, const Tensor &weight, const Tensor &bias, float epsilon, Tensor &sum, Tensor &y, Tensor &mean, Tensor &rstd")
aft_kernel(layer_norm_backward_f32 GENERATOR normalization:layer_norm_backward
           ARGUMENTS "const Tensor &x, const Tensor &weight, const Tensor &mean, const Tensor &rstd, const Tensor &dy, const Tensor &residual_gradient, Tensor &dx")
aft_kernel(layer_norm_parameters_backward_f32 GENERATOR normalization:layer_norm_parameters_backward
           ARGUMENTS "const Tensor &x, const Tensor &mean, const Tensor &rstd, const Tensor &dy, int32_t accumulate, Tensor &dweight, Tensor &dbias")

# --- activation: elementwise kernels and column sums (generators/activation.h)
aft_kernel(gelu_forward_f32 GENERATOR activation:elementwise PARAMS kind=gelu_forward ARGUMENTS "const Tensor &x, Tensor &y")
aft_kernel(gelu_backward_f32 GENERATOR activation:elementwise PARAMS kind=gelu_backward ARGUMENTS "const Tensor &x, const Tensor &dy, Tensor &dx")
aft_kernel(add_f32 GENERATOR activation:elementwise PARAMS kind=add ARGUMENTS "const Tensor &x, const Tensor &y, Tensor &z")
aft_kernel(column_sum_f32 GENERATOR activation:column_sum ARGUMENTS "const Tensor &x, int32_t accumulate, Tensor &y")

# --- embedding: tokens and positions (generators/embedding.h)
aft_kernel(embedding_forward_f32 GENERATOR embedding:embedding_forward
           ARGUMENTS "const Tensor &tokens, const Tensor &weight, const Tensor &position, Tensor &y")
aft_kernel(embedding_backward_f32 GENERATOR embedding:embedding_backward
           ARGUMENTS "const Tensor &tokens, const Tensor &dy, int32_t accumulate, Tensor &dweight")
aft_kernel(position_backward_f32 GENERATOR embedding:position_backward
           ARGUMENTS "const Tensor &dy, int32_t accumulate, Tensor &dposition")

# --- loss: softmax cross-entropy with label smoothing (generators/loss.h)
aft_kernel(softmax_cross_entropy_f32 GENERATOR loss:softmax_cross_entropy
           ARGUMENTS "const Tensor &logits, const Tensor &targets, float smoothing, float scale, Tensor &loss, Tensor &dlogits")
aft_kernel(softmax_cross_entropy_loss_f32 GENERATOR loss:softmax_cross_entropy PARAMS gradient=false
           ARGUMENTS "const Tensor &logits, const Tensor &targets, float smoothing, Tensor &loss")
# For long rows, in two halves over the same memory (generators/loss_pieces.h); top, sum, level are [R, pieces, 16].
aft_kernel(softmax_pieces_f32 GENERATOR loss:softmax_pieces
           ARGUMENTS "const Tensor &logits, const Tensor &targets, Tensor &top, Tensor &sum, Tensor &level, Tensor &picked, Tensor &kept")
aft_kernel(softmax_from_pieces_f32 GENERATOR loss:softmax_from_pieces
           ARGUMENTS "const Tensor &top, const Tensor &sum, const Tensor &level, const Tensor &picked, const Tensor &targets, float smoothing, float scale, Tensor &loss, Tensor &dlogits")

# --- optimizer: AdamW and the partial sums of a gradient norm (generators/optimizer.h)
aft_kernel(adamw_f32 GENERATOR optimizer:adamw
           ARGUMENTS "float learning_rate, float beta1, float beta2, float epsilon, float weight_decay, float correction1, float correction2, float gradient_scale, Tensor &parameter, Tensor &first_moment, Tensor &second_moment, Tensor &gradient")
aft_kernel(sum_of_squares_f32 GENERATOR optimizer:sum_of_squares ARGUMENTS "const Tensor &x, Tensor &y")

# --- random: dropout by a counter-based generator (generators/random.h)
aft_kernel(dropout_f32 GENERATOR random:dropout
           ARGUMENTS "const Tensor &x, int32_t key_low, int32_t key_high, int32_t stream, int32_t step, int32_t first_row, float probability, Tensor &y")
aft_kernel(dropout_residual_f32 GENERATOR random:dropout PARAMS residual=true
           ARGUMENTS "const Tensor &x, const Tensor &residual, int32_t key_low, int32_t key_high, int32_t stream, int32_t step, int32_t first_row, float probability, Tensor &y")
# --- aft_full: the elementwise kernels around the products of AFT-full (generators/aft_full.h)
aft_kernel(aft_full_range_f32 GENERATOR aft_full:range
           ARGUMENTS "const Tensor &key, const Tensor &value, const Tensor &high_in, const Tensor &low_in, const Tensor &largest_in, Tensor &high, Tensor &low, Tensor &largest")
aft_kernel(aft_full_reference_f32 GENERATOR aft_full:reference
           ARGUMENTS "const Tensor &w, const Tensor &high_in, const Tensor &low_in, int32_t offset, Tensor &high, Tensor &low")
aft_kernel(aft_full_reference_f64 GENERATOR aft_full:reference PARAMS wide=true
           ARGUMENTS "const Tensor &w, const Tensor &high_in, const Tensor &low_in, int32_t offset, Tensor &high, Tensor &low")
aft_kernel(aft_full_weights_f32 GENERATOR aft_full:weights
           ARGUMENTS "const Tensor &w, const Tensor &reference, int32_t offset, Tensor &weights")
aft_kernel(aft_full_weights_f64 GENERATOR aft_full:weights PARAMS wide=true
           ARGUMENTS "const Tensor &w, const Tensor &reference, int32_t offset, Tensor &weights")
aft_kernel(aft_full_products_f64 GENERATOR aft_full:products ARGUMENTS "const Tensor &u, const Tensor &v, Tensor &w")
aft_kernel(aft_full_bias_f32 GENERATOR aft_full:bias
           ARGUMENTS "const Tensor &weights, const Tensor &products, int32_t accumulate, Tensor &gradient")
aft_kernel(aft_full_step_f32 GENERATOR aft_full:step
           ARGUMENTS "const Tensor &query, const Tensor &key, const Tensor &value, const Tensor &w, Tensor &output")

aft_kernel(aft_local_step_f32 GENERATOR aft_full:step PARAMS has_far=true
           ARGUMENTS "const Tensor &query, const Tensor &key, const Tensor &value, const Tensor &w, const Tensor &far, Tensor &output")

# --- local_step: decoding of AFT-local (generators/local_step.h)
aft_kernel(local_step_bias_f64 GENERATOR local_step:bias ARGUMENTS "const Tensor &u, const Tensor &v, Tensor &w")
aft_kernel(local_step_fold_f32 GENERATOR local_step:fold
           ARGUMENTS "const Tensor &key, const Tensor &value, int32_t first, int32_t count, Tensor &num, Tensor &den, Tensor &max")
aft_kernel(local_step_push_f32 GENERATOR local_step:push
           ARGUMENTS "const Tensor &key, const Tensor &value, const Tensor &reference, int32_t leaves, Tensor &num, Tensor &den, Tensor &row, Tensor &value_row")
aft_kernel(local_step_mix_f32 GENERATOR local_step:mix
           ARGUMENTS "const Tensor &query, const Tensor &key, const Tensor &value, const Tensor &weights, const Tensor &far_num, const Tensor &far_den, float far_weight, Tensor &y")

# --- aft_full_mix: the products of AFT-full in register tiles (generators/aft_full_mix.h)
aft_kernel(aft_full_forward_f32 GENERATOR aft_full_mix:forward
           ARGUMENTS "const Tensor &query, const Tensor &pack, const Tensor &tiles, const Tensor &maxima, int32_t block, int32_t first, Tensor &output, Tensor &den")
aft_kernel(aft_full_backward_f32 GENERATOR aft_full_mix:backward
           ARGUMENTS "const Tensor &key, const Tensor &value, const Tensor &pack, const Tensor &tiles, const Tensor &maxima, int32_t block, int32_t first, Tensor &key_gradient, Tensor &value_gradient")
aft_kernel(aft_full_queries_f32 GENERATOR aft_full_mix:queries
           ARGUMENTS "const Tensor &query, const Tensor &output, const Tensor &den, const Tensor &output_gradient, float gradient_factor, Tensor &query_gradient, Tensor &pack")
aft_kernel(aft_full_tiles_f32 GENERATOR aft_full_mix:tiles ARGUMENTS "const Tensor &weights, Tensor &tiles")
aft_kernel(aft_full_column_tiles_f32 GENERATOR aft_full_mix:tiles PARAMS columns=true ARGUMENTS "const Tensor &weights, Tensor &tiles")

# --- aft_full_pairs: the gradient of AFT-full's bias (generators/aft_full_pairs.h)
aft_kernel(aft_full_pairs_f32 GENERATOR aft_full_pairs:pairs
           ARGUMENTS "const Tensor &queries, const Tensor &key, const Tensor &value, const Tensor &maxima, int32_t block, int32_t first, Tensor &products")

# --- aft_window: AFT-local in cache-sized pieces (generators/aft_window.h)
aft_kernel(aft_window_range_f32 GENERATOR aft_window:range
           ARGUMENTS "const Tensor &x, const Tensor &high_in, const Tensor &low_in, Tensor &high, Tensor &low")
aft_kernel(aft_window_keys_f32 GENERATOR aft_window:keys
           ARGUMENTS "const Tensor &key, const Tensor &value, const Tensor &maximum, int32_t missing, Tensor &pack")
aft_kernel(aft_window_queries_f32 GENERATOR aft_window:queries
           ARGUMENTS "const Tensor &output_gradient, const Tensor &query, const Tensor &output, const Tensor &den, float gradient_factor, Tensor &shares, Tensor &ratio_shares, Tensor &query_gradient, Tensor &slack")
aft_kernel(aft_window_query_pack_f32 GENERATOR aft_window:query_pack
           ARGUMENTS "const Tensor &shares, const Tensor &ratio_shares, const Tensor &maximum, const Tensor &own, int32_t missing, Tensor &pack")
foreach (form causal both)
    aft_kernel(aft_window_${form}_forward_f32 GENERATOR aft_window:forward PARAMS form=${form}
               ARGUMENTS "const Tensor &query, const Tensor &pack, const Tensor &tiles, const Tensor &far, const Tensor &before_state, const Tensor &after_state, const Tensor &scale_low, const Tensor &scale_high, int32_t before, int32_t after, Tensor &y, Tensor &den, Tensor &state")
endforeach ()
foreach (form reversed both)
    aft_kernel(aft_window_${form}_backward_f32 GENERATOR aft_window:backward PARAMS form=${form}
               ARGUMENTS "const Tensor &keys, const Tensor &value, const Tensor &pack, const Tensor &tiles, const Tensor &far, const Tensor &before_state, const Tensor &after_state, const Tensor &scale_low, const Tensor &scale_high, int32_t before, int32_t after, int32_t missing, Tensor &value_gradient, Tensor &key_gradient, Tensor &state")
endforeach ()
aft_kernel(aft_window_total_f32 GENERATOR aft_window:total ARGUMENTS "const Tensor &pack, const Tensor &weight, Tensor &total")
aft_kernel(aft_window_dots_f32 GENERATOR aft_window:dots PARAMS type=float32
           ARGUMENTS "const Tensor &a, const Tensor &b, int32_t accumulate, int32_t missing, int32_t width, Tensor &dots")
aft_kernel(aft_window_dots_f64 GENERATOR aft_window:dots PARAMS type=float64
           ARGUMENTS "const Tensor &a, const Tensor &b, int32_t accumulate, int32_t missing, int32_t width, Tensor &dots")
aft_kernel(aft_window_table_f32 GENERATOR aft_window:table PARAMS type=float32
           ARGUMENTS "const Tensor &scores, int32_t window, int32_t before, int32_t causal, int32_t first, int32_t length, Tensor &table, Tensor &far, Tensor &spread")
aft_kernel(aft_window_table_f64 GENERATOR aft_window:table PARAMS type=float64
           ARGUMENTS "const Tensor &scores, int32_t window, int32_t before, int32_t causal, int32_t first, int32_t length, Tensor &table, Tensor &far, Tensor &spread")
aft_kernel(aft_window_transpose_f32 GENERATOR aft_window:transpose
           ARGUMENTS "const Tensor &table, const Tensor &far, int32_t window, int32_t before, int32_t table_before, int32_t direction, Tensor &tiles")
aft_kernel(aft_window_bias_gradient_f32 GENERATOR aft_window:bias_gradient
           ARGUMENTS "const Tensor &tiles, const Tensor &partial, int32_t window, int32_t before, int32_t direction, Tensor &gradient")
aft_kernel(aft_window_apply_f32 GENERATOR aft_window:apply
           ARGUMENTS "const Tensor &band, const Tensor &a, int32_t before, int32_t after, Tensor &out")

# --- aft_conv: AFT-conv in one dimension (generators/aft_conv.h)
set(conv_groups "single:group == 1" "uniform:group % 16 == 0" ragged)  # how channels share heads
set(conv_shared_groups "uniform:group % 16 == 0 && a.size(1) == group * sums.size(1)" ragged)
set(conv_whole_groups "single:group == 1" ${conv_shared_groups})
set(conv_sums "const Tensor &pack, const Tensor &taps, const Tensor &far, const Tensor &before, const Tensor &after, const Tensor &scale, int32_t window")
aft_kernel(aft_conv_values_f32 GENERATOR aft_conv:values VARIANTS ${conv_groups}
           ARGUMENTS "const Tensor &key, const Tensor &value, const Tensor &maximum, const Tensor &head, int32_t group, Tensor &weights, Tensor &pack")
aft_kernel(aft_conv_carry_f32 GENERATOR aft_conv:carry ARGUMENTS "const Tensor &rows, const Tensor &scale, Tensor &carried")
aft_kernel(aft_conv_total_f32 GENERATOR aft_conv:total ARGUMENTS "const Tensor &pack, Tensor &total")
aft_kernel(aft_conv_queries_f32 GENERATOR aft_conv:queries VARIANTS ${conv_groups}
           ARGUMENTS "const Tensor &output_gradient, const Tensor &query, const Tensor &output, const Tensor &den, const Tensor &head, int32_t group, float gradient_factor, Tensor &shares, Tensor &ratio_shares, Tensor &query_gradient, Tensor &slack")
foreach (form causal reversed both)
    aft_kernel(aft_conv_${form}_sums_f32 GENERATOR aft_conv:sums PARAMS form=${form} ARGUMENTS "${conv_sums}, int32_t rows, Tensor &sums, Tensor &state")
endforeach ()
foreach (form causal both)
    aft_kernel(aft_conv_${form}_forward_f32 GENERATOR aft_conv:forward PARAMS form=${form} VARIANTS ${conv_groups}
               ARGUMENTS "${conv_sums}, const Tensor &query, const Tensor &den, const Tensor &head, int32_t group, Tensor &y, Tensor &state")
endforeach ()
foreach (form reversed both)
    aft_kernel(aft_conv_${form}_backward_f32 GENERATOR aft_conv:backward PARAMS form=${form} VARIANTS ${conv_groups}
               ARGUMENTS "${conv_sums}, const Tensor &weights, const Tensor &head, int32_t group, Tensor &value_gradient, Tensor &state")
endforeach ()
aft_kernel(aft_conv_heads_f32 GENERATOR aft_conv:heads VARIANTS ${conv_shared_groups}
           ARGUMENTS "const Tensor &a, int32_t group, int32_t first, Tensor &sums")
aft_kernel(aft_conv_key_gradient_f32 GENERATOR aft_conv:heads PARAMS rest=true VARIANTS ${conv_whole_groups}
           ARGUMENTS "const Tensor &a, const Tensor &b, const Tensor &x, const Tensor &y, int32_t group, int32_t first, Tensor &sums")
aft_kernel(aft_conv_filter_f32 GENERATOR aft_conv:filter ARGUMENTS "const Tensor &keys, const Tensor &queries, float sign, Tensor &products")
aft_kernel(aft_conv_step_f32 GENERATOR aft_conv:step
           ARGUMENTS "const Tensor &query, const Tensor &key, const Tensor &value, const Tensor &w, const Tensor &far_num, const Tensor &far_den, const Tensor &far_max, const Tensor &head, Tensor &output")

;; A plugin that does what the first byte of a request says; see `mod.rs`.
(module
  (import "tcpcopy:plugin/host@0.1.0" "enter" (func $enter (param i64)))
  (import "tcpcopy:plugin/host@0.1.0" "count" (func $count (param i32 i32 i64)))
  (import "tcpcopy:plugin/host@0.1.0" "log" (func $log (param i32 i32 i32)))
  (import "tcpcopy:plugin/host@0.1.0" "random" (func $random (param i32 i32)))
  (memory (export "memory") 40)
  (global $heap (mut i32) (i32.const 0x40000))

  ;; Texts, and the descriptor made of them.
  (data (i32.const 0) "guest")
  (data (i32.const 16) "1.2.3")
  (data (i32.const 32) "does as it is told")
  (data (i32.const 64) "why")
  (data (i32.const 72) "seen")
  (data (i32.const 80) "no such mode")
  (data (i32.const 96) "mode")
  (data (i32.const 112) "what it does")
  ;; ports: 7, 4242
  (data (i32.const 128) "\07\00\92\10")
  ;; options: one text `mode`, no default
  (data (i32.const 144) "\60\00\00\00\04\00\00\00\03\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\70\00\00\00\0c\00\00\00")
  ;; descriptor
  (data (i32.const 192) "\00\00\00\00\05\00\00\00\10\00\00\00\05\00\00\00\20\00\00\00\12\00\00\00\00\00\00\00\80\00\00\00\02\00\00\00\01\00\00\00\90\00\00\00\01\00\00\00")

  (func (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at
      (i32.and
        (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get $align))))
    (global.set $heap (i32.add (local.get $at) (local.get $size)))
    (if (i32.gt_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536)))
      (then (drop (memory.grow (i32.shr_u (i32.add (local.get $size) (i32.const 131071)) (i32.const 16))))))
    (local.get $at))

  (func (export "tcpcopy:plugin/plugin@0.1.0#describe") (result i32)
    ;;DESCRIBE
    (i32.const 192))

  (func (export "tcpcopy:plugin/plugin@0.1.0#configure") (param $settings i32) (param $count i32) (result i32)
    ;;CONFIGURE
    ;; A setting's text begins 16 bytes into it: "bad" is refused.
    (if (local.get $count)
      (then
        (if (i32.eq (i32.load8_u (i32.load (i32.add (local.get $settings) (i32.const 16)))) (i32.const 0x62))
          (then
            (i32.store8 (i32.const 256) (i32.const 1))
            (i32.store (i32.const 260) (i32.const 80))
            (i32.store (i32.const 264) (i32.const 12))
            (return (i32.const 256))))))
    (i32.store8 (i32.const 256) (i32.const 0))
    (i32.store8 (i32.const 260) (i32.const 1))
    (i32.store8 (i32.const 261) (i32.const 0))
    (i32.const 256))

  (func $act (param $at i32) (param $session i64) (param $kind i32) (param $value i32) (param $length i32)
    (i64.store (local.get $at) (local.get $session))
    (i32.store8 (i32.add (local.get $at) (i32.const 8)) (local.get $kind))
    (i64.store (i32.add (local.get $at) (i32.const 16)) (i64.const 0))
    (i32.store (i32.add (local.get $at) (i32.const 16)) (local.get $value))
    (i32.store (i32.add (local.get $at) (i32.const 20)) (local.get $length)))

  (func (export "tcpcopy:plugin/plugin@0.1.0#run")
    (param $events i32) (param $count i32) (param $openings i32) (param $opened i32) (param $bytes i32) (param $size i32)
    (result i32)
    (local $at i32) (local $end i32) (local $session i64) (local $entered i64) (local $length i32) (local $byte i32)
    (local.set $entered (i64.const -1))
    (local.set $at (i32.const 0x10000))
    (local.set $end (i32.add (local.get $events) (i32.mul (local.get $count) (i32.const 32))))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $events) (local.get $end)))
        (local.set $session (i64.load (local.get $events)))
        (if (i64.ne (local.get $session) (local.get $entered))
          (then
            (call $enter (local.get $session))
            (local.set $entered (local.get $session))))
        (if (i32.eq (i32.load8_u (i32.add (local.get $events) (i32.const 16))) (i32.const 1))
          (then
            (local.set $length (i32.load (i32.add (local.get $events) (i32.const 24))))
            (local.set $byte
              (i32.load8_u
                (i32.add (local.get $bytes) (i32.load (i32.add (local.get $events) (i32.const 20))))))
            ;; L: loops
            (if (i32.eq (local.get $byte) (i32.const 0x4c)) (then (loop $ever (br $ever))))
            ;; A: allocates
            (if (i32.eq (local.get $byte) (i32.const 0x41))
              (then (loop $ever (drop (memory.grow (i32.const 16))) (br $ever))))
            ;; T: traps
            (if (i32.eq (local.get $byte) (i32.const 0x54)) (then (unreachable)))
            ;; X: a list of actions outside its memory
            (if (i32.eq (local.get $byte) (i32.const 0x58))
              (then
                (i32.store (i32.const 512) (i32.const 0x10000))
                (i32.store (i32.const 516) (i32.const 0x7fffffff))
                (return (i32.const 512))))
            ;; K: an action of a kind that there is not
            (if (i32.eq (local.get $byte) (i32.const 0x4b))
              (then
                (call $act (local.get $at) (local.get $session) (i32.const 99) (i32.const 0) (i32.const 0)))
              (else
            ;; O: a span outside its bytes
            (if (i32.eq (local.get $byte) (i32.const 0x4f))
              (then
                (call $act (local.get $at) (local.get $session) (i32.const 2) (i32.const 2) (i32.const 2)))
              (else
            ;; G: gives up
            (if (i32.eq (local.get $byte) (i32.const 0x47))
              (then
                (call $act (local.get $at) (local.get $session) (i32.const 9) (i32.const 0) (i32.const 3)))
              (else
            ;; C: counts, and says so
            (if (i32.eq (local.get $byte) (i32.const 0x43))
              (then
                (call $count (i32.const 72) (i32.const 4) (i64.const 2))
                (call $log (i32.const 2) (i32.const 72) (i32.const 4))))
            ;; R: returns eight random bytes
            (if (i32.eq (local.get $byte) (i32.const 0x52))
              (then
                (call $random (i32.const 8) (i32.const 520))
                (call $act (local.get $at) (local.get $session) (i32.const 2) (i32.const 0) (i32.const 8))
                (i32.store (i32.const 512) (i32.const 0x10000))
                (i32.store (i32.const 516) (i32.const 1))
                (i64.store (i32.const 0x200) (i64.load (i32.const 0x200)))
                (global.set $heap (i32.const 0x40000))
                (i64.store (i32.const 528) (i64.load (i32.load (i32.const 520))))
                (i32.store (i32.const 520) (i32.const 528))
                (i32.store (i32.const 524) (i32.const 8))
                (return (i32.const 512))))
            (call $act (local.get $at) (local.get $session) (i32.const 0) (local.get $length) (i32.const 0))))))))
            (local.set $at (i32.add (local.get $at) (i32.const 24)))))
        (local.set $events (i32.add (local.get $events) (i32.const 32)))
        (br $next)))
    (i32.store (i32.const 512) (i32.const 0x10000))
    (i32.store (i32.const 516) (i32.div_u (i32.sub (local.get $at) (i32.const 0x10000)) (i32.const 24)))
    (i32.store (i32.const 520) (i32.const 64))
    (i32.store (i32.const 524) (i32.const 3))
    (i32.const 512))

  (func (export "cabi_post_tcpcopy:plugin/plugin@0.1.0#run") (param i32)
    (global.set $heap (i32.const 0x40000))))

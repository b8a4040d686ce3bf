# Which ssmbake goes into the boxes.
module Program
  # The newest static binary of `scripts/release build` for this machine's architecture, which is the boxes'.
  def self.default
    arch = RbConfig::CONFIG["host_cpu"].sub("arm64", "aarch64")
    dist = File.join(__dir__, "../target/dist")
    Dir[File.join(dist, "ssmbake-*-linux-#{arch}")].max_by { |file| File.mtime(file) } ||
      File.join(dist, "ssmbake-VERSION-linux-#{arch}")
  end

  # Whether it needs nothing of a box: an ELF file without an interpreter (program header 3).
  def self.static?(file)
    head = File.binread(file, 8192).to_s
    return false unless head.start_with?("\x7FELF".b) && head.size > 64

    is_wide = head.getbyte(4) == 2
    start = is_wide ? head.unpack1("@32Q<") : head.unpack1("@28L<")
    size, count = head.unpack(is_wide ? "@54S<S<" : "@42S<S<")
    Array.new(count) { |index| head[start + index * size, 4].to_s.unpack1("L<") }.none?(3)
  end
end

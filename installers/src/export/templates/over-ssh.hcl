  @UPLOAD@
  provisioner "shell" {
    # /tmp may be mounted noexec, and root may have no sudo.
    remote_folder   = "/var/tmp"
    execute_command = "{{.Vars}} sh -c 'if [ $(id -u) = 0 ]; then sh {{.Path}}; else sudo -E sh {{.Path}}; fi'"
    inline = [
      "set -eu",
      "report=/var/tmp/ssmbake-report.json sbom='/var/tmp/${basename(var.sbom)}'",
      "trap 'code=$?; rm -f /var/tmp/ssmbake /usr/local/sbin/ssmbake; [ $code = 0 ] || rm -f $report \"$sbom\"; exit $code' EXIT",
      @GET@
      "/usr/local/sbin/ssmbake apply --root '${var.root}' @FLAGS@ --report $report --sbom \"$sbom\"",
      "/usr/local/sbin/ssmbake audit --no-network --root '${var.root}'",
      "chmod 644 $report \"$sbom\"",
    ]
  }

  provisioner "file" {
    direction   = "download"
    source      = "/var/tmp/ssmbake-report.json"
    destination = var.report
  }

  provisioner "file" {
    direction   = "download"
    source      = "/var/tmp/${basename(var.sbom)}"
    destination = var.sbom
  }

  provisioner "shell" {
    remote_folder   = "/var/tmp"
    execute_command = "{{.Vars}} sh -c 'if [ $(id -u) = 0 ]; then sh {{.Path}}; else sudo -E sh {{.Path}}; fi'"
    inline          = ["rm /var/tmp/ssmbake-report.json '/var/tmp/${basename(var.sbom)}'"]
  }
